//! Log lines printed above progress bars instead of through them.

use std::io::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

/// Where a command puts its progress bars once it has some; shared with the log writer.
#[derive(Clone, Debug, Default)]
pub struct ProgressSlot(Arc<RwLock<Option<MultiProgress>>>);

impl ProgressSlot {
    /// From now on log lines appear above these bars.
    ///
    /// Do not log inside `MultiProgress::suspend` of the same bars: the writer takes the same
    /// lock and would wait for itself.
    pub fn set(&self, bars: &MultiProgress) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(bars.clone());
    }

    /// From now on log lines are written as they are.
    pub fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn get(&self) -> Option<MultiProgress> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A [`MakeWriter`] that takes the bars of a [`ProgressSlot`] off the screen for each write.
pub struct AboveBars<M> {
    inner: M,
    slot: ProgressSlot,
}

impl<M> AboveBars<M> {
    /// Writes to `inner`, above the bars in `slot` if there are any.
    pub const fn new(inner: M, slot: ProgressSlot) -> Self {
        Self { inner, slot }
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for AboveBars<M> {
    type Writer = LineAboveBars<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        LineAboveBars {
            inner: self.inner.make_writer(),
            bars: self.slot.get(),
        }
    }
}

/// The writer of one log line.
pub struct LineAboveBars<W> {
    inner: W,
    bars: Option<MultiProgress>,
}

impl<W: Write> LineAboveBars<W> {
    fn above<T>(&mut self, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        match &self.bars {
            Some(bars) => bars.suspend(|| write(&mut self.inner)),
            None => write(&mut self.inner),
        }
    }
}

impl<W: Write> Write for LineAboveBars<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.above(|inner| inner.write(bytes))
    }

    // Not the default, which would redraw the bars between the pieces of a line.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.above(|inner| inner.write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{ProgressBar, ProgressDrawTarget, TermLike};
    use std::sync::Mutex;

    /// A terminal and a log in one, which remembers what was asked of it.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<Vec<String>>>);

    impl Screen {
        fn push(&self, what: impl Into<String>) -> io::Result<()> {
            self.0.lock().unwrap().push(what.into());
            Ok(())
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> io::Result<()> {
            self.push(format!("bar {line}"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.push(format!("bar {text}"))
        }
        fn clear_line(&self) -> io::Result<()> {
            self.push("clear")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.push(format!("log {}", String::from_utf8_lossy(bytes)))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_written_after_the_bar_is_cleared_and_the_bar_comes_back() {
        let screen = Screen::default();
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(
            screen.clone(),
        )));
        let bar = bars.add(ProgressBar::new(10));
        bar.tick();
        let slot = ProgressSlot::default();
        slot.set(&bars);
        let sink = screen.clone();
        let writer = AboveBars::new(move || sink.clone(), slot.clone());
        screen.0.lock().unwrap().clear();

        writer.make_writer().write_all(b"one line").unwrap();

        let seen = screen.0.lock().unwrap().clone();
        let log = seen.iter().position(|op| op == "log one line").unwrap();
        assert!(seen[..log].iter().any(|op| op == "clear"), "{seen:?}");
        assert!(
            seen[log..].iter().any(|op| op.starts_with("bar ")),
            "{seen:?}"
        );

        slot.clear();
        screen.0.lock().unwrap().clear();
        writer.make_writer().write_all(b"another").unwrap();
        assert_eq!(*screen.0.lock().unwrap(), ["log another"]);
    }
}
