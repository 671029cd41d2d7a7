//! The watermark of one partition, in seconds: it closes spans of time that no event can fall into any more.

/// By how much the watermark trails the largest time.
pub const LATENESS_S: u64 = 10;

pub struct Clock {
    largest: Option<u64>,
    /// Length of the spans that are closed.
    span_s: u64,
    /// Start of the first span that is not closed.
    open: u64,
}

impl Clock {
    pub fn new(span_s: u64) -> Clock {
        Clock { largest: None, span_s, open: 0 }
    }

    /// Takes an event's time; calls `close` with the start of every span that ends with it, in order.
    #[inline]
    pub fn advance(&mut self, time: u64, mut close: impl FnMut(u64)) {
        let Some(largest) = self.largest else {
            self.open = time.saturating_sub(LATENESS_S) / self.span_s * self.span_s;
            self.largest = Some(time);
            return;
        };
        if time > largest {
            self.largest = Some(time);
            let watermark = time.saturating_sub(LATENESS_S);
            while self.open + self.span_s <= watermark {
                close(self.open);
                self.open += self.span_s;
            }
        } else {
            assert!(time + LATENESS_S >= largest, "the log has a late event, which the floor does not know");
        }
    }

    /// Start of the first span that is not closed.
    #[inline]
    pub fn open(&self) -> u64 {
        self.open
    }
}
