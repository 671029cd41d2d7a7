//! Values of `train` that are more than a word or a number.

use serde::{Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a training's tensors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// It names no device: `cpu`, `cuda` and `cuda:N` do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADevice;

impl FromStr for Device {
    type Err = NotADevice;

    fn from_str(text: &str) -> Result<Device, NotADevice> {
        let device = match text.strip_prefix("cuda") {
            None if text == "cpu" => Some(Device::Cpu),
            Some("") => Some(Device::Cuda(0)),
            Some(index) => index.strip_prefix(':').and_then(|index| index.parse().ok()).map(Device::Cuda),
            None => None,
        };
        device.ok_or(NotADevice)
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where TensorBoard's event files go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorBoard {
    /// `tensorboard` in the model's directory.
    Auto,
    /// There are none.
    None,
    /// Here.
    Dir(PathBuf),
}

impl TensorBoard {
    pub(super) fn read(text: String) -> Option<TensorBoard> {
        match text.as_str() {
            "" => None,
            "auto" => Some(TensorBoard::Auto),
            "none" => Some(TensorBoard::None),
            _ => Some(TensorBoard::Dir(text.into())),
        }
    }

    /// The directory, for a model in `model_dir`.
    pub fn dir(&self, model_dir: &Path) -> Option<PathBuf> {
        match self {
            TensorBoard::Auto => Some(model_dir.join("tensorboard")),
            TensorBoard::None => None,
            TensorBoard::Dir(dir) => Some(dir.clone()),
        }
    }
}

impl Serialize for TensorBoard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            TensorBoard::Auto => serializer.serialize_str("auto"),
            TensorBoard::None => serializer.serialize_str("none"),
            TensorBoard::Dir(dir) => dir.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_shown() {
        for (text, device) in [("cpu", Device::Cpu), ("cuda", Device::Cuda(0)), ("cuda:3", Device::Cuda(3))] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for wrong in ["", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda3", "cuda:3 "] {
            assert_eq!(wrong.parse::<Device>(), Err(NotADevice), "{wrong}");
        }
    }

    #[test]
    fn the_event_files_have_a_place_by_default() {
        let dir = |text: &str| TensorBoard::read(text.into()).map(|place| place.dir(Path::new("m")));
        assert_eq!(dir("auto"), Some(Some("m/tensorboard".into())));
        assert_eq!(dir("none"), Some(None));
        assert_eq!(dir("./auto"), Some(Some("./auto".into())));
        assert_eq!(dir(""), None);
    }
}
