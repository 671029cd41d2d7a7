//! Places at which a test can have the process die (`tests/services`): nothing can be said of a crash that was not tried.
//!
//! `EDDYLINE_FAULT=label:ordinal` kills the process, as `kill -9` would, when it comes to the place `label` for the
//! `ordinal`th time, from 1. Without the variable a place costs one load. The process first says where it dies, so that a
//! test knows that the fault has fired.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names the place and the count.
const VARIABLE: &str = "EDDYLINE_FAULT";

struct Fault {
    label: String,
    left: AtomicU64,
}

/// A place at which the process may be told to die.
pub fn point(label: &str) {
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    let fault = FAULT.get_or_init(|| read(&std::env::var(VARIABLE).ok()?));
    if let Some(fault) = fault
        && fault.label == label
        && fault.left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        let _ = writeln!(std::io::stderr(), "fault: {label}");
        die();
    }
}

fn read(text: &str) -> Option<Fault> {
    let (label, ordinal) = text.rsplit_once(':')?;
    let left = ordinal.parse().ok().filter(|ordinal| *ordinal > 0)?;
    Some(Fault { label: label.to_owned(), left: AtomicU64::new(left) })
}

/// No destructor runs, no buffer is flushed.
fn die() -> ! {
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGKILL);
    std::process::abort()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_label_and_a_count() {
        let fault = read("sink.commit.before:3").unwrap();
        assert_eq!((fault.label.as_str(), fault.left.into_inner()), ("sink.commit.before", 3));
        for wrong in ["", "label", "label:0", "label:x"] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
        point("no.such.place");
    }
}
