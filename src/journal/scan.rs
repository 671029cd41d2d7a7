//! Reading a journal line by line, in bounded memory, and believing only what is whole.
//!
//! *A torn end.* A crash while lines are appended leaves a prefix of them, perhaps with zeros behind it where the file grew before its
//! bytes came. Nobody was told that they are durable, so they are cut off; only a line that is whole but for its line end is kept. An
//! end that is no prefix of a line, as far as its own checksum says, is none of that: it was whole once, and is damaged. (A
//! line holds one `}` only, its last byte.)

use super::sealed::{Seal, covered_length, seal, unseal};
use super::{Decision, JournalError};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The format written here, and the newest one known.
pub(crate) const VERSION: u32 = 1;

/// The longest line that is looked at: a file without line ends is no journal, and must not fill the memory.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// What the first line of a live journal says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase", deny_unknown_fields)]
enum Header {
    Journal { version: u32, pipeline: String },
}

/// A place between two lines of a live journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// Bytes before it.
    pub(crate) bytes: u64,
    /// Lines before it.
    pub(crate) lines: u64,
    /// The checksum of the line before it, which covers all lines before it.
    pub(crate) check: u64,
}

/// The first line of the journal of the pipeline with the fingerprint `pipeline`, and the place behind it.
pub(crate) fn header(pipeline: &str) -> (Vec<u8>, Place) {
    let (mut text, mut place) = (Vec::new(), Place::default());
    append(&Header::Journal { version: VERSION, pipeline: pipeline.to_owned() }, &mut place, &mut text);
    (text, place)
}

/// Appends a decision to `text`, and moves `place` behind it.
pub(crate) fn append_decision(decision: &Decision, place: &mut Place, text: &mut Vec<u8>) {
    append(decision, place, text);
}

fn append(entry: &impl Serialize, place: &mut Place, text: &mut Vec<u8>) {
    let object = serde_json::to_vec(entry).expect("an entry has string keys only");
    let start = text.len();
    place.check = seal(&object, place.check, text);
    place.bytes += (text.len() - start) as u64;
    place.lines += 1;
}

/// Hands every decision of a journal to `visit`, with the number of its line, whether lines have checksums or not.
pub(super) fn any(
    path: &Path,
    mut visit: impl FnMut(u64, Decision) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let mut lines = Lines::open(path)?;
    let mut sealed = None;
    while lines.advance()? {
        let is_whole = lines.line.pop_if(|byte| *byte == b'\n').is_some();
        if lines.line.trim_ascii().is_empty() {
            continue;
        }
        let seal = unseal(&mut lines.line, lines.place.check);
        match seal {
            Seal::None if !is_whole && sealed == Some(true) => return Err(lines.torn()),
            Seal::None if sealed == Some(true) => return Err(lines.damaged("it has no checksum, unlike those before")),
            Seal::Right(_) if sealed == Some(false) => {
                return Err(lines.damaged("it has a checksum, unlike those before"));
            }
            Seal::Wrong => return Err(lines.damaged(WRONG_CHECKSUM)),
            Seal::Right(check) => lines.place.check = check,
            Seal::None => {}
        }
        if sealed.is_none() && lines.is_header() {
            lines.version()?;
        } else {
            visit(lines.place.lines, lines.decision()?)?;
        }
        sealed = Some(seal != Seal::None);
    }
    Ok(())
}

/// What is left of a live journal after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// The end of its last whole line.
    pub(crate) end: Place,
    /// Bytes behind it, of an append that was cut off.
    pub(crate) torn_bytes: u64,
    /// Whether that line is whole but for its line end, which `end` counts.
    pub(crate) lacks_line_end: bool,
}

/// Hands every decision of the live journal of the pipeline with the fingerprint `ours` (`None`: of any) to `visit`, with the
/// place behind it; its header as `None`.
pub(crate) fn live(
    path: &Path,
    ours: Option<&str>,
    mut visit: impl FnMut(Place, Option<Decision>),
) -> Result<Live, JournalError> {
    let mut lines = Lines::open(path)?;
    let mut found = Live { end: Place::default(), torn_bytes: 0, lacks_line_end: false };
    while lines.advance()? {
        if lines.line.pop_if(|byte| *byte == b'\n').is_none() {
            found.torn_bytes = lines.line.len() as u64;
            if is_torn_append(&lines.line, found.end.check) {
                break;
            }
            lines.take_zeros();
            found.lacks_line_end = true;
        }
        match unseal(&mut lines.line, found.end.check) {
            Seal::Right(check) => lines.place.check = check,
            _ if found.lacks_line_end => return Err(lines.damaged(WRONG_END)),
            Seal::Wrong => return Err(lines.damaged(WRONG_CHECKSUM)),
            Seal::None => return Err(lines.damaged("it has no checksum")),
        }
        let decision = if lines.place.lines == 1 {
            let pipeline = lines.version()?;
            if let Some(ours) = ours.filter(|ours| *ours != pipeline) {
                return Err(JournalError::Foreign { path: path.into(), found: pipeline, ours: ours.to_owned() });
            }
            None
        } else {
            Some(lines.decision()?)
        };
        found.end = lines.place;
        visit(found.end, decision);
    }
    let Live { end, .. } = found;
    if end.lines == 0 {
        return Err(JournalError::Entry { path: path.into(), line: 1, reason: "the file is empty".into() });
    }
    Ok(found)
}

const WRONG_CHECKSUM: &str = "its checksum is not that of its bytes, or lines before it were changed or lost";
const WRONG_END: &str = "its end is not as it was written";

/// Whether `end`, which has no line end, can be what is left of an append behind a line of checksum `seed`.
fn is_torn_append(end: &[u8], seed: u64) -> bool {
    let zeros = end.iter().rev().take_while(|&&byte| byte == 0).count();
    let text = &end[..end.len() - zeros];
    let is_text = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    let begins_right = text.iter().zip(b"{\"entry\":\"").all(|(found, right)| found == right);
    let fits = covered_length(text).is_none_or(|length| {
        let mut whole = Vec::new();
        seal(&[&text[..length], b"}"].concat(), seed, &mut whole);
        whole.starts_with(text)
    });
    is_text && begins_right && fits && !text.contains(&b'}')
}

/// A journal, at one of its lines.
struct Lines<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// With its line end.
    line: Vec<u8>,
    /// Behind the line, but for the checksum.
    place: Place,
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Lines<'a>, JournalError> {
        let file = File::open(path).map_err(|error| JournalError::Read { path: path.into(), error })?;
        Ok(Lines { path, file: BufReader::new(file), line: Vec::new(), place: Place::default() })
    }

    /// Goes to the next line; `false` at the end.
    fn advance(&mut self) -> Result<bool, JournalError> {
        self.line.clear();
        let read = self.file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line);
        let bytes = read.map_err(|error| JournalError::Read { path: self.path.into(), error })? as u64;
        self.place.bytes += bytes;
        self.place.lines += u64::from(bytes > 0);
        if bytes == LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
            return Err(self.damaged("it is longer than any entry"));
        }
        Ok(bytes > 0)
    }

    /// Takes away the zeros that the line ends in, and counts a line end in their place.
    fn take_zeros(&mut self) {
        let zeros = self.line.iter().rev().take_while(|&&byte| byte == 0).count();
        self.line.truncate(self.line.len() - zeros);
        self.place.bytes = self.place.bytes - zeros as u64 + 1;
    }

    fn damaged(&self, reason: impl Into<String>) -> JournalError {
        JournalError::Entry { path: self.path.into(), line: self.place.lines, reason: reason.into() }
    }

    fn torn(&self) -> JournalError {
        JournalError::Torn { path: self.path.into(), line: self.place.lines }
    }

    /// Whether the line claims to be a header.
    fn is_header(&self) -> bool {
        #[derive(Deserialize)]
        struct Kind<'a> {
            entry: &'a str,
        }
        serde_json::from_slice::<Kind<'_>>(&self.line).is_ok_and(|kind| kind.entry == "journal")
    }

    /// Checks the version in the header that the line is, and returns the pipeline's fingerprint.
    fn version(&self) -> Result<String, JournalError> {
        // A later format may say more, but not without this.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        if !self.is_header() {
            return Err(self.damaged("it is not the header of a journal"));
        }
        let json = |error| self.damaged(explain(&error));
        let Version { version: found } = serde_json::from_slice(&self.line).map_err(json)?;
        if found > VERSION {
            return Err(JournalError::Newer { path: self.path.into(), found, known: VERSION });
        }
        let Header::Journal { pipeline, .. } = serde_json::from_slice(&self.line).map_err(json)?;
        Ok(pipeline)
    }

    fn decision(&self) -> Result<Decision, JournalError> {
        let decision: Decision = serde_json::from_slice(&self.line).map_err(|error| self.damaged(explain(&error)))?;
        decision.fault().map_or(Ok(decision), |fault| Err(self.damaged(fault)))
    }
}

/// What `serde_json` says, without its place: a line is all that it saw.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (error.is_io(), text.split_once(" at line 1")) {
        (false, Some((what, _))) => what.to_owned(),
        _ => text,
    }
}
