//! A lane: the buffers through which batches enter and leave the network. There are two, so that
//! one batch is filled in (and, with CUDA, copied to the card) while the network runs another.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session as OrtSession};
use ort::value::{DynTensor, DynValue, PrimitiveTensorElementType, Tensor as OrtTensor};

use super::tensor::{Tensor, TensorData};

/// What a lane is made for.
pub(super) struct LaneSpec<'a> {
    pub session: &'a OrtSession,
    pub input: &'a str,
    pub output: &'a str,
    pub place: Place,
}

/// Where the network computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the host's memory: what is staged is what the network reads.
    Host,
    /// On a card: through pinned memory, which its copy engine reads by itself.
    Card {
        device_id: i32,
        /// Whether the input must lie at one address for ever, as CUDA graphs need.
        fixed: bool,
    },
}

/// One lane.
pub struct Lane {
    input: String,
    staged: Staged,
}

enum Staged {
    Host(Option<DynValue>),
    Card(Box<Card>),
}

/// What a run is given.
pub(super) enum Input<'a> {
    Value(DynValue),
    Bound(&'a IoBinding),
}

impl Lane {
    pub(super) fn new(spec: &LaneSpec) -> ort::Result<Self> {
        let staged = match spec.place {
            Place::Host => Staged::Host(None),
            Place::Card { device_id, fixed } => {
                let pinned = |kind| {
                    let device = AllocationDevice::CUDA_PINNED;
                    MemoryInfo::new(device, device_id, AllocatorType::Device, kind)
                };
                let answers = pinned(MemoryType::CPUOutput)?;
                let mut binding = spec.session.create_binding()?;
                binding.bind_output_to_device(spec.output, &answers)?;
                let on_card = || {
                    let device = AllocationDevice::CUDA;
                    let kind = MemoryType::Default;
                    MemoryInfo::new(device, device_id, AllocatorType::Device, kind)
                };
                Staged::Card(Box::new(Card {
                    host: Allocator::new(spec.session, pinned(MemoryType::CPUInput)?)?,
                    card: match fixed {
                        true => Some(Allocator::new(spec.session, on_card()?)?),
                        false => None,
                    },
                    buffer: None,
                    output: spec.output.to_owned(),
                    answers,
                    binding,
                }))
            }
        };
        Ok(Self {
            input: spec.input.to_owned(),
            staged,
        })
    }

    /// Fills the lane with photos of one size and layout. On a card the copy is under way when
    /// this returns.
    /// A photo alone is handed over; several are copied, and can be staged again.
    pub(super) fn stage(&mut self, photos: &mut Vec<Tensor>) -> ort::Result<()> {
        match &mut self.staged {
            Staged::Host(value) => {
                *value = Some(on_host(photos)?);
                Ok(())
            }
            Staged::Card(card) => card.stage(&self.input, photos),
        }
    }

    /// Whether staging copies, into buffers of the lane's own: then it is worth doing while another
    /// batch runs. What is handed over as it is stays with its job until its turn comes.
    pub(super) const fn copies(&self) -> bool {
        matches!(self.staged, Staged::Card(_))
    }

    /// What was staged, for one run.
    pub(super) fn take(&mut self) -> Option<Input<'_>> {
        match &mut self.staged {
            Staged::Host(value) => value.take().map(Input::Value),
            Staged::Card(card) => Some(Input::Bound(&card.binding)),
        }
    }
}

/// `[N, …]` for the photos: the axes of one, with the batch's before them.
fn shape(photos: &[Tensor]) -> [usize; 4] {
    let Some(first) = photos.first() else {
        return [0; 4];
    };
    let (width, height) = (first.width as usize, first.height as usize);
    match first.data {
        TensorData::NchwF32(_) => [photos.len(), 3, height, width],
        TensorData::NhwcU8(_) => [photos.len(), height, width, 3],
    }
}

fn on_host(photos: &mut Vec<Tensor>) -> ort::Result<DynValue> {
    let shape = shape(photos);
    let alone = if photos.len() == 1 {
        photos.pop()
    } else {
        None
    };
    let floats = |data| OrtTensor::from_array((shape, data)).map(OrtTensor::into_dyn);
    let bytes = |data| OrtTensor::from_array((shape, data)).map(OrtTensor::into_dyn);
    match (alone.map(|photo| photo.data), photos.first()) {
        (Some(TensorData::NchwF32(data)), _) => floats(data),
        (Some(TensorData::NhwcU8(data)), _) => bytes(data),
        (None, Some(first)) if matches!(first.data, TensorData::NchwF32(_)) => {
            floats(joined(photos, |photo| match &photo.data {
                TensorData::NchwF32(data) => data,
                TensorData::NhwcU8(_) => &[],
            }))
        }
        (None, _) => bytes(joined(photos, |photo| match &photo.data {
            TensorData::NhwcU8(data) => data,
            TensorData::NchwF32(_) => &[],
        })),
    }
}

fn joined<T: Copy>(photos: &[Tensor], of: impl Fn(&Tensor) -> &[T]) -> Vec<T> {
    let parts: Vec<&[T]> = photos.iter().map(of).collect();
    parts.concat()
}

/// Buffers of a lane on a card.
struct Card {
    host: Allocator,
    /// Makes the input's one place on the card; without it the binding finds a place each time.
    card: Option<Allocator>,
    buffer: Option<Buffer>,
    /// The graph's name for the matte, and where it shall be put.
    output: String,
    answers: MemoryInfo<'static>,
    binding: IoBinding,
}

/// The pinned input for one shape, and its fixed place on the card.
struct Buffer {
    shape: [usize; 4],
    host: DynTensor,
    card: Option<DynTensor>,
}

impl Card {
    fn stage(&mut self, input: &str, photos: &[Tensor]) -> ort::Result<()> {
        let shape = shape(photos);
        let kept = self.buffer.take().filter(|buffer| buffer.shape == shape);
        let mut buffer = match (kept, photos.first().map(|photo| &photo.data)) {
            (Some(buffer), _) => buffer,
            (None, Some(TensorData::NchwF32(_))) => self.buffer::<f32>(shape)?,
            (None, _) => self.buffer::<u8>(shape)?,
        };
        for (i, photo) in photos.iter().enumerate() {
            match &photo.data {
                TensorData::NchwF32(data) => fill(&mut buffer.host, i, data)?,
                TensorData::NhwcU8(data) => fill(&mut buffer.host, i, data)?,
            }
        }
        match &mut buffer.card {
            // A replayed graph goes on writing where it wrote when it was captured.
            Some(card) => {
                buffer.host.copy_into(&mut *card)?;
                self.binding.bind_input(input, card)?;
            }
            None => {
                self.binding.bind_input(input, &buffer.host)?;
                // The binding keeps the matte of its first run and puts later ones into it,
                // whatever their shape: bound anew, it takes one of the right shape.
                self.binding
                    .bind_output_to_device(&*self.output, &self.answers)?;
            }
        }
        self.buffer = Some(buffer);
        Ok(())
    }

    fn buffer<T>(&self, shape: [usize; 4]) -> ort::Result<Buffer>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        let value = |at: &Allocator| OrtTensor::<T>::new(at, shape).map(OrtTensor::upcast);
        Ok(Buffer {
            shape,
            host: value(&self.host)?,
            card: self.card.as_ref().map(value).transpose()?,
        })
    }
}

fn fill<T>(buffer: &mut DynTensor, photo: usize, data: &[T]) -> ort::Result<()>
where
    T: PrimitiveTensorElementType + Copy,
{
    let (_, all) = buffer.try_extract_tensor_mut::<T>()?;
    if let Some(place) = all.chunks_exact_mut(data.len()).nth(photo) {
        place.copy_from_slice(data);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo(value: u8) -> Tensor {
        Tensor {
            width: 3,
            height: 2,
            data: TensorData::NhwcU8(vec![value; 18]),
        }
    }

    #[test]
    fn the_batch_is_the_first_axis() {
        assert_eq!(shape(&[photo(1), photo(2)]), [2, 2, 3, 3]);
        let planes = Tensor {
            data: TensorData::NchwF32(vec![0.0; 18]),
            ..photo(0)
        };
        assert_eq!(shape(&[planes]), [1, 3, 2, 3]);
    }
}
