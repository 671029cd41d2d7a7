//! TensorBoard's event files: TFRecords of `Event` messages with scalars, which is all that a training tells.
//!
//! A record is its length (u64), the masked CRC-32C of these eight bytes, the message, and the masked CRC-32C of it; a message
//! is in the protocol buffers' wire format. Written by hand, since the crates for it bring a protobuf compiler along.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::TrainError;

/// One event file, open for more.
#[derive(Debug)]
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in `dir`, which is made where it is missing. A run that goes on begins another file there, as TensorBoard
    /// expects.
    pub(super) fn create(dir: &Path) -> Result<EventFile, TrainError> {
        fs::create_dir_all(dir).map_err(TrainError::io(dir, "create the directory"))?;
        let started = now();
        let name = |attempt: u32| format!("events.out.tfevents.{}.{}.{attempt}", started as u64, std::process::id());
        let (path, file) = (0..)
            .map(|attempt| dir.join(name(attempt)))
            .find_map(|path| match File::create_new(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => None,
                created => Some((path, created)),
            })
            .expect("names do not end");
        let file = file.map_err(TrainError::io(&path, "write"))?;
        let mut events = EventFile { path, file };
        let mut event = Message::default();
        event.double(1, started);
        event.bytes(3, b"brain.Event:2");
        events.write(&event.0)?;
        Ok(events)
    }

    /// Adds scalars of a step.
    pub(super) fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) -> Result<(), TrainError> {
        let mut summary = Message::default();
        for (tag, value) in scalars {
            let mut scalar = Message::default();
            scalar.bytes(1, tag.as_bytes());
            scalar.float(2, *value as f32);
            summary.bytes(1, &scalar.0);
        }
        let mut event = Message::default();
        event.double(1, now());
        event.varint(2, step);
        event.bytes(5, &summary.0);
        self.write(&event.0)
    }

    fn write(&mut self, message: &[u8]) -> Result<(), TrainError> {
        self.file.write_all(&record(message)).map_err(TrainError::io(&self.path, "write"))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &masked(crc32c(&length)).to_le_bytes(), message, &masked(crc32c(message)).to_le_bytes()].concat()
}

/// TFRecord's masking, so that a CRC of data that holds CRCs is no trouble.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli), bit by bit: a few hundred bytes a step.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

/// A message in the wire format.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.number(field << 3 | wire_type);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.number(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The check value of the CRC's catalogue, and RFC 3720's vector of 32 zeros.
    #[test]
    fn the_crc_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    }

    #[test]
    fn a_file_begins_with_its_version_and_holds_scalars() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(dir.path()).unwrap();
        events.scalars(300, &[("loss".into(), 0.5)]).unwrap();
        EventFile::create(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let bytes = fs::read(&events.path).unwrap();
        let first = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert!(bytes[12..12 + first].ends_with(b"\x1a\x0dbrain.Event:2"));
        let second = &bytes[16 + first + 12..bytes.len() - 4];
        assert!(second.ends_with(b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f"), "{second:x?}");
    }
}
