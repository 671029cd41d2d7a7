//! Users at work: sessions start as the day goes, and each goes from item to item until its events are used up.
//!
//! Time runs in whole seconds. A session starts when the events promised so far fall behind the share of the log's
//! activity that is over; so there are exactly as many events as asked for, spread as the daily rhythm says. A session
//! is asleep in the [`Wheel`] until its next event, at least a second later: a second once begun gets no more events.

use super::catalogue::{Popularity, SUCCESSOR_STEPS, favourite_bits, successor};
use super::draw::{Exponential, Geometric, Zipf};
use super::options::{Options, TimeUnit};
use super::random::{Chance, Random, Stream};
use super::rhythm::Rhythm;
use super::wheel::Wheel;

/// What a user does, by the index that [`crate::generate`] gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    View,
    Cart,
    Favourite,
    Buy,
}

/// An event as it happens; users and items are counted from 0, the time from the log's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    pub(crate) since_start_ms: u64,
    pub(crate) user: u32,
    pub(crate) item: u32,
    pub(crate) act: Act,
}

/// Items of a session that a user may go back to, the newest included.
const REMEMBERED: usize = 4;

#[derive(Clone)]
struct Session {
    user: u32,
    events_left: u32,
    /// Different items in a row, newest first; the first `seen` count.
    items: [u32; REMEMBERED],
    seen: u8,
    /// What was done last; it was done to the newest item.
    last: Act,
}

/// The chances of a session's next step.
struct Habits {
    cart: Chance,
    cart_or_favourite: Chance,
    cart_to_buy: Chance,
    favourite_to_buy: Chance,
    revisit: Chance,
    successor: Chance,
    loyalty: Chance,
}

impl Habits {
    fn new(options: &Options) -> Habits {
        Habits {
            cart: Chance::new(options.cart),
            cart_or_favourite: Chance::new(options.cart + options.favourite),
            cart_to_buy: Chance::new(options.cart_to_buy),
            favourite_to_buy: Chance::new(options.favourite_to_buy),
            revisit: Chance::new(options.revisit),
            successor: Chance::new(options.successor),
            loyalty: Chance::new(options.loyalty),
        }
    }

    /// What becomes of the item just handled, if anything.
    fn pursuit(&self, last: Act, bits: u32) -> Option<Act> {
        match last {
            Act::View if self.cart.covers(bits) => Some(Act::Cart),
            Act::View if self.cart_or_favourite.covers(bits) => Some(Act::Favourite),
            Act::Cart if self.cart_to_buy.covers(bits) => Some(Act::Buy),
            Act::Favourite if self.favourite_to_buy.covers(bits) => Some(Act::Buy),
            _ => None,
        }
    }
}

/// Who starts a session: the active more often, but no one who is in a session already.
struct Starters {
    users: Zipf,
    /// A bit a user.
    busy: Vec<u64>,
}

/// After so many busy users drawn in a row, one is let start a second session.
const DRAWS_MAX: u32 = 64;

impl Starters {
    fn new(options: &Options) -> Starters {
        let users = Zipf::new(options.users, options.user_exponent);
        Starters { users, busy: vec![0; (options.users as usize).div_ceil(64)] }
    }

    fn start(&mut self, random: &mut Random) -> u32 {
        let mut user = self.users.rank(random.bits());
        for _ in 1..DRAWS_MAX {
            if self.busy[user as usize / 64] >> (user % 64) & 1 == 0 {
                break;
            }
            user = self.users.rank(random.bits());
        }
        self.busy[user as usize / 64] |= 1 << (user % 64);
        user
    }

    fn end(&mut self, user: u32) {
        self.busy[user as usize / 64] &= !(1 << (user % 64));
    }
}

/// All users' sessions.
pub(crate) struct Simulation {
    seed: u64,
    items: u32,
    truncate_times: bool,
    random: Random,
    starters: Starters,
    popularity: Popularity,
    habits: Habits,
    lengths: Geometric,
    gaps: Exponential,
    schedule: Schedule,
    sessions: Vec<Session>,
    free: Vec<u32>,
    /// Each session that has another event, as its millisecond within the second and its number, in one word.
    asleep: Wheel<u64>,
    due: Vec<u64>,
    second: u64,
    /// Sessions started so far.
    pub(crate) started: u64,
}

impl Simulation {
    pub(crate) fn new(options: &Options) -> Simulation {
        Simulation {
            seed: options.seed,
            items: options.items,
            truncate_times: options.time_unit == TimeUnit::Seconds,
            random: Random::new(options.seed, Stream::Sessions),
            starters: Starters::new(options),
            popularity: Popularity::new(options),
            habits: Habits::new(options),
            lengths: Exponential::geometric(options.session_events - 1.0),
            gaps: Exponential::new((options.gap_ms - 1_000) as f64),
            schedule: Schedule::new(options),
            sessions: Vec::new(),
            free: Vec::new(),
            asleep: Wheel::new(),
            due: Vec::new(),
            second: 0,
            started: 0,
        }
    }

    /// Whether every event has happened.
    pub(crate) fn is_over(&self) -> bool {
        self.schedule.is_over() && self.asleep.held() == 0
    }

    /// Puts the next second's events behind those in `into`, by time.
    pub(crate) fn next_second(&mut self, into: &mut Vec<Drawn>) {
        let mut due = std::mem::take(&mut self.due);
        self.asleep.take(&mut due);
        self.start_sessions(&mut due);
        // By millisecond, then by session: no two are equal.
        due.sort_unstable();
        for entry in due.drain(..) {
            let (millisecond, number) = (entry >> 32, entry as u32);
            let now_ms = self.second * 1000 + millisecond;
            let shown_ms = if self.truncate_times { self.second * 1000 } else { now_ms };
            into.push(self.act(number, shown_ms));
            self.sleep(number, now_ms);
        }
        self.due = due;
        self.second += 1;
        self.popularity.drift();
    }

    fn start_sessions(&mut self, due: &mut Vec<u64>) {
        self.schedule.pass(self.second);
        while self.schedule.is_behind() {
            let length = 1 + self.lengths.draw(&mut self.random);
            let session = Session {
                user: self.starters.start(&mut self.random),
                events_left: self.schedule.promise(length),
                items: [0; REMEMBERED],
                seen: 0,
                last: Act::Buy,
            };
            let number = self.free.pop().unwrap_or(self.sessions.len() as u32);
            if number as usize == self.sessions.len() {
                self.sessions.push(session);
            } else {
                self.sessions[number as usize] = session;
            }
            due.push(self.random.below(1000) << 32 | u64::from(number));
            self.started += 1;
        }
    }

    /// The session's next event.
    fn act(&mut self, number: u32, since_start_ms: u64) -> Drawn {
        let bits = self.random.bits();
        let session = &self.sessions[number as usize];
        let pursuit = self.habits.pursuit(session.last, bits as u32);
        let item = match pursuit {
            Some(_) => session.items[0],
            None => self.browse(number, bits >> 32),
        };
        let act = pursuit.unwrap_or(Act::View);
        let session = &mut self.sessions[number as usize];
        session.last = act;
        session.events_left -= 1;
        if session.seen == 0 || session.items[0] != item {
            session.items.copy_within(..REMEMBERED - 1, 1);
            session.items[0] = item;
            session.seen = (session.seen + 1).min(REMEMBERED as u8);
        }
        Drawn { since_start_ms, user: session.user, item, act }
    }

    /// The item looked at next; `choice` is 32 random bits.
    fn browse(&mut self, number: u32, choice: u64) -> u32 {
        let session = &self.sessions[number as usize];
        let bits = self.random.bits();
        if session.seen > 1 && self.habits.revisit.covers(bits as u32) {
            // One of those before the newest.
            let back = 1 + ((choice * u64::from(session.seen - 1)) >> 32);
            return session.items[back as usize];
        }
        if session.seen > 0 && self.habits.successor.covers((bits >> 32) as u32) {
            return successor(session.items[0], SUCCESSOR_STEPS[choice as usize % SUCCESSOR_STEPS.len()], self.items);
        }
        if self.habits.loyalty.covers(choice as u32) {
            return self.popularity.item(favourite_bits(self.seed, session.user, self.random.bits() >> 62));
        }
        self.popularity.item(self.random.bits())
    }

    fn sleep(&mut self, number: u32, now_ms: u64) {
        let session = &self.sessions[number as usize];
        if session.events_left == 0 {
            self.starters.end(session.user);
            self.free.push(number);
            return;
        }
        let next_ms = now_ms + 1000 + u64::from(self.gaps.draw(&mut self.random));
        self.asleep.put(next_ms / 1000, (next_ms % 1000) << 32 | u64::from(number));
    }
}

/// How many events should have been promised to sessions by now.
struct Schedule {
    rhythm: Rhythm,
    events: u64,
    seconds: u64,
    weight_total: u64,
    weight_passed: u64,
    promised: u64,
    wanted: u64,
}

impl Schedule {
    fn new(options: &Options) -> Schedule {
        let rhythm = Rhythm::new(options.start_ms, options.rhythm);
        let seconds = options.duration_ms / 1000;
        let weight_total = (0..seconds).map(|second| rhythm.weight(second)).sum();
        Schedule { rhythm, events: options.events, seconds, weight_total, weight_passed: 0, promised: 0, wanted: 0 }
    }

    /// Counts in `second`; each is counted once, in order.
    fn pass(&mut self, second: u64) {
        if second < self.seconds {
            self.weight_passed += self.rhythm.weight(second);
            let share = u128::from(self.weight_passed) * u128::from(self.events) / u128::from(self.weight_total);
            self.wanted = share as u64;
        }
    }

    fn is_behind(&self) -> bool {
        self.promised < self.wanted
    }

    fn is_over(&self) -> bool {
        self.promised == self.events
    }

    /// Promises so many events, or as many as are left.
    fn promise(&mut self, events: u32) -> u32 {
        let granted = u64::from(events).min(self.events - self.promised);
        self.promised += granted;
        granted as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(options: &Options) -> Vec<Drawn> {
        let mut simulation = Simulation::new(options);
        let mut events = Vec::new();
        while !simulation.is_over() {
            simulation.next_second(&mut events);
        }
        events
    }

    #[test]
    fn exactly_the_events_asked_for_in_order_of_time() {
        for events in [1, 2, 999] {
            let options = Options { events, duration_ms: 10_000, ..Options::default() };
            let drawn = drawn(&options);
            assert_eq!(drawn.len() as u64, events);
            assert!(drawn.is_sorted_by_key(|event| event.since_start_ms));
        }
    }

    #[test]
    fn sessions_have_the_mean_length_and_gap() {
        let options = Options {
            events: 50_000,
            users: 1 << 20,
            user_exponent: 0.0,
            time_unit: TimeUnit::Milliseconds,
            ..Options::default()
        };
        let mut simulation = Simulation::new(&options);
        let mut events = Vec::new();
        while !simulation.is_over() {
            simulation.next_second(&mut events);
        }
        let mean = 50_000.0 / simulation.started as f64;
        assert!((9.5..10.5).contains(&mean), "{mean}");
        // With so many users hardly anyone comes twice, so a user's events are one session's.
        events.sort_by_key(|event| (event.user, event.since_start_ms));
        let gaps: Vec<u64> = events
            .windows(2)
            .filter(|pair| pair[0].user == pair[1].user)
            .map(|pair| pair[1].since_start_ms - pair[0].since_start_ms)
            .filter(|&gap_ms| gap_ms < 400_000)
            .collect();
        let mean_ms = gaps.iter().sum::<u64>() / gaps.len() as u64;
        assert!((38_000..42_000).contains(&mean_ms), "{mean_ms}");
        assert!(gaps.iter().all(|&gap_ms| gap_ms >= 1000));
    }

    #[test]
    fn no_one_is_in_two_sessions_at_once() {
        // Eight users at most, hardly ever free: many draws meet a busy one.
        let options = Options { events: 5_000, users: 8, duration_ms: 3_600_000 * 48, ..Options::default() };
        let mut simulation = Simulation::new(&options);
        let mut events = Vec::new();
        let mut overlaps = 0;
        while !simulation.is_over() {
            simulation.next_second(&mut events);
            let active = simulation.sessions.iter().filter(|session| session.events_left > 0);
            let mut users: Vec<u32> = active.map(|session| session.user).collect();
            users.sort_unstable();
            overlaps += users.windows(2).filter(|pair| pair[0] == pair[1]).count();
        }
        assert_eq!(overlaps, 0);
        // Where there is no one else, a second session starts all the same.
        assert_eq!(drawn(&Options { users: 1, duration_ms: 60_000, ..options }).len(), 5_000);
    }

    #[test]
    fn who_goes_back_goes_to_each_of_the_items_before_the_last() {
        let options = Options { revisit: 1.0, successor: 0.0, ..Options::default() };
        let mut simulation = Simulation::new(&options);
        let items = [7, 8, 9, 10];
        let session = Session { user: 0, events_left: 9, items, seen: 3, last: Act::View };
        simulation.sessions.push(session);
        let backs: Vec<u32> = (0..300).map(|i| simulation.browse(0, (i << 32) / 300)).collect();
        let count = |item| backs.iter().filter(|&&back| back == item).count();
        assert_eq!(items.map(count), [0, 150, 150, 0], "the fourth item was not seen");
    }

    #[test]
    fn a_certain_successor_makes_chains() {
        let options = Options {
            events: 2_000,
            users: 1 << 20,
            user_exponent: 0.0,
            successor: 1.0,
            revisit: 0.0,
            cart: 0.0,
            favourite: 0.0,
            ..Options::default()
        };
        let mut events = drawn(&options);
        events.sort_by_key(|event| (event.user, event.since_start_ms));
        let pairs: Vec<_> = events.windows(2).filter(|pair| pair[0].user == pair[1].user).collect();
        let follows = |pair: &&&[Drawn]| (1..4).any(|s| successor(pair[0].item, s, options.items) == pair[1].item);
        let chained = pairs.iter().filter(follows).count();
        assert!(chained * 100 > pairs.len() * 98, "{chained} of {}", pairs.len());
    }
}
