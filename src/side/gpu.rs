//! The card's memory, as NVIDIA's management library tells it: ONNX Runtime does not say what its
//! arena and cuDNN have taken. The library comes with the driver and is loaded when asked for.

use nvml_wrapper::Nvml;

/// A card's memory, at one moment. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardMemory {
    /// What all processes on the card have taken.
    pub used: u64,
    /// What the card has.
    pub total: u64,
}

/// A card to be asked for its memory.
pub struct Card {
    nvml: Nvml,
    index: u32,
}

impl Card {
    /// The card with this number, counted by the bus as the management library does: CUDA counts
    /// in the same way where `CUDA_DEVICE_ORDER=PCI_BUS_ID` and all cards are visible.
    ///
    /// Errors: a sentence for the log; the worker runs on, with a gauge fewer.
    pub fn open(device_id: i32) -> Result<Self, String> {
        let index =
            u32::try_from(device_id).map_err(|_| format!("no card has number {device_id}"))?;
        let nvml = Nvml::init().map_err(|error| format!("no NVIDIA driver answers: {error}"))?;
        let card = Self { nvml, index };
        card.memory()
            .map(|_| ())
            .ok_or_else(|| format!("card {index} does not tell its memory"))?;
        Ok(card)
    }

    /// Asks the driver; some microseconds.
    pub fn memory(&self) -> Option<CardMemory> {
        let memory = self
            .nvml
            .device_by_index(self.index)
            .and_then(|card| card.memory_info())
            .ok()?;
        Some(CardMemory {
            used: memory.used,
            total: memory.total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_cards_says_so_and_one_with_some_tells_their_memory() {
        assert!(Card::open(-1).is_err());
        match Card::open(0) {
            Err(said) => assert!(said.contains("driver") || said.contains("card 0"), "{said}"),
            Ok(card) => {
                let memory = card.memory().unwrap();
                assert!(memory.total > 1 << 30 && memory.used <= memory.total);
            }
        }
    }
}
