//! What operators see: logs, metrics and traces.

pub mod attribute;
pub mod cloud_json;
pub mod context;
mod export;
pub mod labels;
pub mod logs;
pub mod metrics;
pub mod process;
pub mod progress;
pub mod spent;
pub mod traces;

#[cfg(test)]
pub(crate) mod testing {
    //! A log that is kept instead of written.

    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    pub struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub fn writer(&self) -> impl Fn() -> Self + Send + Sync + use<> {
            let log = self.clone();
            move || log.clone()
        }

        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub fn lines_of(log: &Captured) -> Vec<serde_json::Value> {
        log.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}")))
            .collect()
    }
}
