//! A catalogue in eight bits, with bounds on what that hides.
//!
//! Row x is rounded to x̂ = s·X, X an integer of −127 … 127 and s the scale of x's tile; a query q to q̂ = c·Q with a scale
//! of its own (and Q of −63 … 63 where the kernel takes no more). q̂·x̂ = s·c·(Q·X) is cheap and exact in integers. What it misses, by Cauchy and Schwarz:
//!
//! ```text
//! q·x − q̂·x̂ = q·(x − x̂) + (q − q̂)·x̂     |q·x − q̂·x̂| ≤ ‖q‖·‖x − x̂‖ + ‖q − q̂‖·‖x̂‖
//! ```
//!
//! The score to be bounded is not q·x + b but the f32 chain of d fused multiply-adds that starts at b. Each step rounds with
//! a relative error ≤ 2⁻²⁴, or an absolute one ≤ 2⁻¹⁵⁰ where it underflows, so that the chain is within
//!
//! ```text
//! γ·(|b| + Σ|q_k x_k|) + d·2⁻¹⁴⁹,   γ = d·2⁻²⁴/(1 − d·2⁻²⁴),   Σ|q_k x_k| ≤ ‖q‖·‖x‖
//! ```
//!
//! of the real number (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). This holds if nothing overflows, which ‖q‖·‖x‖ + |b| < 2¹²⁶ ensures. The bounds
//! themselves are computed in f64 and widened by more than f64 can lose on the way.
//!
//! Rows are sorted by their largest magnitude, so that those of a tile (4096) share a scale that suits them all, and large
//! scores, which raise the thresholds, tend to come first.

use super::Aligned;
use super::Instructions;
use super::int8::{self, GROUP, Groups, Hits, Starts};
use super::scan::Table;
use std::ops::Range;

/// Groups of a tile: 4096 items, which the second-level cache holds while all users pass.
const TILE_GROUPS: usize = 64;
/// Longest row for which sums of int8 products stay far inside i32.
const DEPTH_MAX: usize = 4096;
/// The largest magnitude of an item's values.
const ITEM_MAX: i8 = 127;
/// Marks a place without an item, at the end of the last group.
const NO_ITEM: u32 = u32::MAX;
/// More than f64 arithmetic of 4096 steps can lose, relatively.
const WIDENED: f64 = 1.0 + 1.0 / (1u64 << 30) as f64;
/// Scales stay above this, so that products of two are ordinary f64 numbers.
const SCALE_MIN: f32 = 1e-30;
/// ‖q‖·‖x‖ + |b| below this cannot overflow on the way.
const MAGNITUDE_MAX: f64 = 8.5e37;
/// Terms of a sum's start stay below this, so that the sum stays inside i32.
const START_MAX: f64 = (1u64 << 29) as f64;

/// The items in int8, in groups and tiles.
#[derive(Debug)]
pub(crate) struct Shadow {
    instructions: Instructions,
    depth: usize,
    quads: usize,
    words: Aligned<u32>,
    /// One value an item, in the table's order, or none.
    bias: Aligned<f32>,
    /// The item at each place.
    items: Vec<u32>,
    tiles: Vec<Tile>,
}

/// Items that share a scale, and the largest of what bounds need to know of them.
#[derive(Clone, Debug)]
pub(crate) struct Tile {
    groups: Range<usize>,
    scale: f64,
    /// 1 / scale.
    inverse: f64,
    /// ‖x − x̂‖.
    residual: f64,
    /// ‖x̂‖.
    rounded_norm: f64,
    /// ‖x‖.
    norm: f64,
    /// |b|.
    bias: f64,
}

impl Shadow {
    /// The shadow of `table`, for these instructions; none where rows are so long that sums might leave i32.
    pub(crate) fn new(instructions: Instructions, table: Table<'_>) -> Option<Shadow> {
        if table.depth > DEPTH_MAX || table.count() == 0 {
            return None;
        }
        let (places, quads) = (table.count().next_multiple_of(GROUP), table.depth.div_ceil(4));
        let mut items = by_magnitude(table);
        items.resize(places, NO_ITEM);
        let mut shadow = Shadow {
            instructions,
            depth: table.depth,
            quads,
            words: Aligned::zeros(places * quads),
            bias: Aligned::zeros(if table.bias.is_some() { places } else { 0 }),
            items,
            tiles: Vec::with_capacity(places.div_ceil(GROUP * TILE_GROUPS)),
        };
        for first in (0..places / GROUP).step_by(TILE_GROUPS) {
            let tile = shadow.fill_tile(table, first..(first + TILE_GROUPS).min(places / GROUP));
            shadow.tiles.push(tile);
        }
        Some(shadow)
    }

    fn fill_tile(&mut self, table: Table<'_>, groups: Range<usize>) -> Tile {
        let places = groups.start * GROUP..groups.end * GROUP;
        let largest =
            self.items[places.clone()].iter().filter(|&&item| item != NO_ITEM).map(|&item| magnitude(table.row(item)));
        let scale = (largest.fold(0.0, f32::max) / f32::from(ITEM_MAX)).max(SCALE_MIN);
        let mut tile = Tile {
            groups,
            scale: f64::from(scale),
            inverse: 1.0 / f64::from(scale),
            residual: 0.0,
            rounded_norm: 0.0,
            norm: 0.0,
            bias: 0.0,
        };
        let mut integers = vec![0i8; self.quads * 4];
        for place in places {
            integers.fill(0);
            if self.items[place] != NO_ITEM {
                let row = table.row(self.items[place]);
                let norms = round(row, scale, ITEM_MAX, &mut integers);
                tile.residual = tile.residual.max(norms.residual);
                tile.rounded_norm = tile.rounded_norm.max(norms.rounded);
                tile.norm = tile.norm.max(norms.exact);
                if let Some(bias) = table.bias {
                    self.bias[place] = bias[self.items[place] as usize];
                    tile.bias = tile.bias.max(f64::from(self.bias[place].abs()));
                }
            }
            for (quad, values) in integers.as_chunks::<4>().0.iter().enumerate() {
                let word = values.map(|value| (value as u8).wrapping_add(128));
                self.words[(place / GROUP * self.quads + quad) * GROUP + place % GROUP] = u32::from_le_bytes(word);
            }
        }
        tile
    }

    pub(crate) fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    pub(crate) fn quads(&self) -> usize {
        self.quads
    }

    /// Rounds `query` into `words`, four values each. `None` where it is zero, infinite, NaN, or next to nothing.
    pub(crate) fn query(&self, query: &[f32], words: &mut [u32]) -> Option<ShadowQuery> {
        ShadowQuery::new(query, int8::user_max(self.instructions), words)
    }

    /// The first of `groups` with a sum that is not negative ([`int8::search`]).
    pub(crate) fn search(
        &self,
        groups: Range<usize>,
        users: &[u32],
        starts: &Starts,
        hits: &mut Hits,
    ) -> Option<usize> {
        let table = Groups { words: &self.words, bias: &self.bias, quads: self.quads };
        int8::search(self.instructions, table, groups, users, starts, hits)
    }

    /// The item at a place (group · 64 + column), if there is one.
    pub(crate) fn item(&self, place: usize) -> Option<u32> {
        (self.items[place] != NO_ITEM).then_some(self.items[place])
    }

    /// What stands between `query`'s int8 sums over `tile` and scores. `None` where no bound holds.
    pub(crate) fn bounds(&self, tile: &Tile, query: &ShadowQuery) -> Option<Bounds> {
        let unit = tile.scale * query.scale;
        let magnitude = (query.norm * tile.norm + tile.bias) * WIDENED;
        let inverse = tile.inverse * query.inverse;
        let bias_units = tile.bias * inverse * WIDENED;
        let steps = self.depth as f64;
        let gamma = steps * 2f64.powi(-24) * 1.01;
        let error = query.norm * tile.residual
            + query.residual * tile.rounded_norm
            + (gamma + 2f64.powi(-40)) * magnitude
            + steps * 2f64.powi(-149);
        let holds = magnitude < MAGNITUDE_MAX
            && bias_units < START_MAX
            && error * inverse < START_MAX
            && (self.bias.is_empty() || inverse < f64::from(f32::MAX));
        holds.then(|| Bounds {
            unit,
            inverse,
            offset: 128.0 * f64::from(query.sum),
            error: error * WIDENED,
            magnitude: magnitude * (1.0 + gamma) + steps * 2f64.powi(-149),
            bias_units,
            reach: (3 * 128 * 128 * 4 * self.quads) as f64 + bias_units + 2.0,
            biased: !self.bias.is_empty(),
        })
    }
}

impl Tile {
    pub(crate) fn groups(&self) -> Range<usize> {
        self.groups.clone()
    }
}

/// Item indices, those with the largest magnitude of a value first.
fn by_magnitude(table: Table<'_>) -> Vec<u32> {
    // Magnitudes are not negative, so their bits are in their order.
    let key = |item: u32| !(u64::from(magnitude(table.row(item)).to_bits()) << 32 | u64::from(!item));
    let mut keys: Vec<u64> = (0..table.count() as u32).map(key).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32).collect()
}

fn magnitude(row: &[f32]) -> f32 {
    row.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// 1.5 · 2⁵²: f64 numbers of this size are integers.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// Upper bounds of a vector's norm, of its rounded twin's, and of their difference's.
struct Norms {
    exact: f64,
    rounded: f64,
    residual: f64,
}

/// Rounds `values` to multiples of `scale`, up to ± `most`.
fn round(values: &[f32], scale: f32, most: i8, integers: &mut [i8]) -> Norms {
    let most = f64::from(most);
    let (scale, inverse) = (f64::from(scale), 1.0 / f64::from(scale));
    let (mut exact, mut rounded, mut residual) = (0.0, 0.0, 0.0);
    for (&value, integer) in values.iter().zip(integers) {
        let value = f64::from(value);
        // Adding a number whose last place is 1 rounds to an integer; any integer near would do.
        let nearest = ((value * inverse).clamp(-most, most) + ROUNDER) - ROUNDER;
        *integer = nearest as i8;
        exact += value * value;
        rounded += (nearest * scale) * (nearest * scale);
        residual += (value - nearest * scale) * (value - nearest * scale);
    }
    let norm = |sum: f64| sum.sqrt() * WIDENED;
    Norms { exact: norm(exact), rounded: norm(rounded), residual: norm(residual) }
}

/// A query in int8.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShadowQuery {
    scale: f64,
    /// 1 / scale.
    inverse: f64,
    norm: f64,
    residual: f64,
    /// Sum of its integers.
    sum: i32,
}

impl ShadowQuery {
    /// Rounds `query` to integers up to ± `most`.
    fn new(query: &[f32], most: i8, words: &mut [u32]) -> Option<ShadowQuery> {
        let largest = magnitude(query);
        let scale = largest / f32::from(most);
        if !(scale >= SCALE_MIN && query.iter().all(|value| value.is_finite())) {
            return None;
        }
        let (mut sum, mut squares) = (0, [0.0; 2]);
        for (word, values) in words.iter_mut().zip(query.chunks(4)) {
            let mut integers = [0i8; 4];
            let norms = round(values, scale, most, &mut integers);
            squares[0] += norms.exact * norms.exact;
            squares[1] += norms.residual * norms.residual;
            sum += integers.iter().map(|&integer| i32::from(integer)).sum::<i32>();
            *word = u32::from_le_bytes(integers.map(|integer| integer as u8));
        }
        let [norm, residual] = squares.map(|sum: f64| sum.sqrt() * WIDENED);
        let scale = f64::from(scale);
        Some(ShadowQuery { scale, inverse: 1.0 / scale, norm, residual, sum })
    }
}

/// Between int8 sums and scores, for one tile and one query. In the kernel's units, an item's score is
///
/// score = unit · (sum − start − offset ± slack) ± error
///
/// where sum is what the kernel makes of a start: start + bias/unit (rounded) + Σ (X + 128)·Q, and offset = 128·ΣQ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    unit: f64,
    inverse: f64,
    offset: f64,
    error: f64,
    /// No score is larger.
    magnitude: f64,
    bias_units: f64,
    /// Starts beyond ± this admit all or nothing.
    reach: f64,
    biased: bool,
}

impl Bounds {
    /// The start that makes the sum of every item whose score may be ≥ `lower`, and of few others,
    /// ≥ 0; `None` where there is no such item.
    pub(crate) fn start(&self, lower: f32) -> Option<f32> {
        let lower = f64::from(lower);
        if self.magnitude < lower {
            return None;
        }
        // score ≥ lower needs unit·(sum − start − offset + slack) + error ≥ lower: the start that makes this sum ≥ 0.
        let exact = (self.error - lower) * self.inverse - self.offset;
        let start = exact + self.slack(exact.clamp(-self.reach, self.reach)) + 2.0;
        if start < -self.reach {
            return None;
        }
        // An integer that is not below it, and the least f32 that is not below that.
        let start = start.min(self.reach) as i32 + 1;
        let nearest = start as f32;
        Some(if f64::from(nearest) < f64::from(start) { nearest.next_up() } else { nearest })
    }

    /// A start from which every sum is negative.
    pub(crate) fn closed(&self) -> f32 {
        -(self.reach as f32).next_up()
    }

    /// The factor that turns a bias into the kernel's units.
    pub(crate) fn inverse(&self) -> f32 {
        self.inverse as f32
    }

    /// The least and the largest that the score of a sum can be.
    pub(crate) fn scores(&self, sum: i32, start: f32) -> (f32, f32) {
        let start = f64::from(start);
        let middle = self.unit * (f64::from(sum) - start - self.offset);
        let error = self.error + self.unit * self.slack(start) * WIDENED;
        (below(middle - error), above(middle + error))
    }

    /// How far f32 rounding can take start + bias · inverse from start + bias / unit, in units: three roundings relative to
    /// the terms (the inverse, the sum, and the sum's f64 twin), and half a unit when it becomes an integer.
    fn slack(&self, start: f64) -> f64 {
        if self.biased { 0.5 + (2.0 * self.bias_units + start.abs() + 4.0) * 2f64.powi(-23) } else { 0.0 }
    }
}

/// The largest f32 that is not above `x`.
fn below(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) > x { nearest.next_down() } else { nearest }
}

/// The least f32 that is not below `x`.
fn above(x: f64) -> f32 {
    -below(-x)
}

#[cfg(test)]
mod tests {
    use super::super::int8::USERS_MAX;
    use super::super::scan::Table;
    use super::*;
    use proptest::prelude::*;

    /// Values of very different magnitudes, subnormal ones and whole numbers among them.
    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            4 => -1.0f32..1.0,
            2 => (-3i8..4).prop_map(f32::from),
            1 => (-1.0f32..1.0, -45i32..18).prop_map(|(x, exponent)| x * 10f32.powi(exponent)),
        ]
    }

    /// A table, its bias, and queries of the same depth.
    #[derive(Debug)]
    struct Case {
        depth: usize,
        rows: Vec<f32>,
        bias: Option<Vec<f32>>,
        queries: Vec<Vec<f32>>,
    }

    fn case() -> impl Strategy<Value = Case> {
        (1usize..24, 1usize..150, any::<bool>(), 1..=USERS_MAX).prop_flat_map(|(depth, count, biased, users)| {
            let rows = prop::collection::vec(value(), count * depth);
            let bias = prop::collection::vec(value(), count).prop_map(move |bias| biased.then_some(bias));
            let queries = prop::collection::vec(prop::collection::vec(value(), depth), users);
            (rows, bias, queries).prop_map(move |(rows, bias, queries)| Case { depth, rows, bias, queries })
        })
    }

    /// Rows and queries that eight bits hold exactly (17 bits times an integer up to 127), so that nothing is left to cover
    /// the roundings of the chain but their own bound; and queries that are rows, whose scores are as large as norms allow.
    fn exact_case() -> impl Strategy<Value = Case> {
        (2usize..24, 1usize..40, 100_000u32..131_072).prop_flat_map(|(depth, count, scale)| {
            let row = prop::collection::vec(-127i16..=127, depth).prop_map(move |mut row| {
                row[0] = 127;
                row.into_iter().map(|x| f32::from(x) * scale as f32).collect::<Vec<f32>>()
            });
            prop::collection::vec(row, count).prop_map(move |rows| {
                let queries = rows.iter().take(USERS_MAX).cloned().collect();
                Case { depth, rows: rows.concat(), bias: None, queries }
            })
        })
    }

    fn chain(table: Table<'_>, item: u32, query: &[f32]) -> f32 {
        let bias = table.bias.map_or(0.0, |bias| bias[item as usize]);
        table.row(item).iter().zip(query).fold(bias, |sum, (w, x)| w.mul_add(*x, sum))
    }

    /// What the kernel computes for a place, in plain Rust.
    fn sum(shadow: &Shadow, place: usize, words: &[u32], start: f32, inverse: f32) -> i32 {
        let start = if shadow.bias.is_empty() { start } else { shadow.bias[place].mul_add(inverse, start) };
        let products = words.iter().enumerate().flat_map(|(quad, user)| {
            let item = shadow.words[(place / GROUP * shadow.quads + quad) * GROUP + place % GROUP].to_le_bytes();
            item.into_iter().zip(user.to_le_bytes()).map(|(item, user)| i32::from(item) * i32::from(user as i8))
        });
        products.fold(start.round_ties_even() as i32, |sum, product| sum + product)
    }

    /// Those with an int8 pass.
    const INT8: [Instructions; 2] = [Instructions::Avx2Int8, Instructions::Avx512Vnni];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// The heart of the first pass: every score lies within its bounds, and whatever the threshold, the sum of an item
        /// that reaches it is not negative.
        #[test]
        fn scores_lie_within_their_bounds(
            case in prop_oneof![case(), exact_case()],
            threshold in value(),
            instructions in prop::sample::select(INT8.to_vec()),
        ) {
            let table = Table { rows: &case.rows, depth: case.depth, bias: case.bias.as_deref() };
            let shadow = Shadow::new(instructions, table).expect("the rows are short");
            for query in &case.queries {
                let mut words = vec![0; shadow.quads()];
                let Some(rounded) = shadow.query(query, &mut words) else { continue };
                for tile in shadow.tiles() {
                    let Some(bounds) = shadow.bounds(tile, &rounded) else { continue };
                    for lower in [f32::NEG_INFINITY, threshold, 0.0, chain(table, 0, query)] {
                        let start = bounds.start(lower);
                        let places = tile.groups().start * GROUP..tile.groups().end * GROUP;
                        for (place, item) in places.filter_map(|place| Some((place, shadow.item(place)?))) {
                            let score = chain(table, item, query);
                            let Some(start) = start else {
                                prop_assert!(score < lower);
                                continue;
                            };
                            let sum = sum(&shadow, place, &words, start, bounds.inverse());
                            prop_assert!(sum >= 0 || score < lower, "{score} was missed at {lower}");
                            let (least, largest) = bounds.scores(sum, start);
                            prop_assert!(least <= score && score <= largest, "{score} not in {least} … {largest}");
                        }
                    }
                }
            }
        }

        /// The kernel against its definition in plain Rust, for every number of users.
        #[test]
        fn the_kernels_find_the_first_group_with_a_hit(
            case in case(),
            thresholds in prop::collection::vec(value(), USERS_MAX),
            instructions in prop::sample::select(INT8.to_vec()),
        ) {
            if !instructions.is_available() {
                eprintln!("SKIP: this processor has no {instructions:?}");
                return Ok(());
            }
            let table = Table { rows: &case.rows, depth: case.depth, bias: case.bias.as_deref() };
            let shadow = Shadow::new(instructions, table).expect("the rows are short");
            let tile = &shadow.tiles()[0];
            let (mut words, mut starts) = (vec![0; shadow.quads() * case.queries.len()], Starts::default());
            for (user, query) in case.queries.iter().enumerate() {
                let rounded = shadow.query(query, &mut words[user * shadow.quads()..][..shadow.quads()]);
                let bounds = rounded.and_then(|rounded| shadow.bounds(tile, &rounded));
                starts.inverse[user] = bounds.map_or(0.0, |bounds| bounds.inverse());
                starts.start[user] = bounds.map_or(-1e8, |bounds| bounds.start(thresholds[user]).unwrap_or(bounds.closed()));
            }
            let expected = |group: usize, user: usize| -> Vec<i32> {
                let words = &words[user * shadow.quads()..][..shadow.quads()];
                let places = group * GROUP..(group + 1) * GROUP;
                places.map(|place| sum(&shadow, place, words, starts.start[user], starts.inverse[user])).collect()
            };
            let users = 0..case.queries.len();
            let is_hit = |group: &usize| users.clone().any(|user| expected(*group, user).iter().any(|&sum| sum >= 0));
            let mut groups = tile.groups();
            let mut hits = Hits::default();
            loop {
                let found = shadow.search(groups.clone(), &words, &starts, &mut hits);
                prop_assert_eq!(found, groups.clone().find(is_hit));
                let Some(group) = found else { break };
                for user in users.clone() {
                    let sums = expected(group, user);
                    let mask = sums.iter().rev().fold(0u64, |mask, &sum| mask << 1 | u64::from(sum >= 0));
                    prop_assert_eq!(hits.masks[user], mask);
                    if mask != 0 {
                        prop_assert_eq!(&hits.sums[user][..], &sums[..]);
                    }
                }
                groups.start = group + 1;
            }
        }
    }

    #[test]
    fn queries_without_bounds_are_told() {
        let mut words = [0; 2];
        for query in [[0.0; 5], [f32::NAN; 5], [1.0, 2.0, f32::INFINITY, 0.0, 0.0], [1e-38; 5]] {
            assert!(ShadowQuery::new(&query, 127, &mut words).is_none());
        }
        let rows = [1e20f32; 5];
        let shadow = Shadow::new(Instructions::Avx512Vnni, Table { rows: &rows, depth: 5, bias: None })
            .expect("the row is short");
        let huge = shadow.query(&[1e20; 5], &mut words).expect("it is finite");
        assert!(shadow.bounds(&shadow.tiles()[0], &huge).is_none(), "a score of 5e40 overflows");
    }
}
