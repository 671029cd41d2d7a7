//! Places at which a test can have the process die (`tests/services`): nothing can be said of a crash that was not tried.
//!
//! `EDDYLINE_FAULT=label:ordinal` kills the process, as `kill -9` would, when it comes to the place `label` for the
//! `ordinal`th time, from 1. The process first says where it dies, so that a test knows that the fault has fired.
//! `EDDYLINE_FAULT=label:250ms` has whoever comes there wait: a slow disk or a busy machine. Without the variable a place costs
//! one load.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Names the place, and what happens there.
const VARIABLE: &str = "EDDYLINE_FAULT";

struct Fault {
    label: String,
    effect: Effect,
}

enum Effect {
    /// The process dies when it comes there and so many times are left, of which this is one.
    Death(AtomicU64),
    /// Whoever comes there waits, every time.
    Delay(Duration),
}

/// A place at which the process may be told to die, or to wait.
pub fn point(label: &str) {
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    let fault = FAULT.get_or_init(|| read(&std::env::var(VARIABLE).ok()?));
    let Some(fault) = fault.as_ref().filter(|fault| fault.label == label) else { return };
    match &fault.effect {
        Effect::Delay(time) => std::thread::sleep(*time),
        Effect::Death(left) if left.fetch_sub(1, Ordering::SeqCst) == 1 => {
            let _ = writeln!(std::io::stderr(), "fault: {label}");
            die();
        }
        Effect::Death(_) => {}
    }
}

fn read(text: &str) -> Option<Fault> {
    let (label, effect) = text.rsplit_once(':')?;
    let effect = match effect.strip_suffix("ms") {
        Some(ms) => Effect::Delay(Duration::from_millis(ms.parse().ok()?)),
        None => Effect::Death(AtomicU64::new(effect.parse().ok().filter(|ordinal| *ordinal > 0)?)),
    };
    Some(Fault { label: label.to_owned(), effect })
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
        assert!(
            fault.label == "sink.commit.before"
                && matches!(fault.effect, Effect::Death(ref left) if left.load(Ordering::SeqCst) == 3)
        );
        let fault = read("journal.append:250ms").unwrap();
        assert!(matches!(fault.effect, Effect::Delay(time) if time == Duration::from_millis(250)));
        for wrong in ["", "label", "label:0", "label:x", "label:xms"] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
        point("no.such.place");
    }
}
