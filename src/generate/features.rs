//! What the Tianchi tables say of users and items beyond their ids: made from the index, stored nowhere.

use super::catalogue::category;
use super::random::mix;

/// What is known of a user.
pub(crate) struct UserFeatures {
    pub(crate) sex: u64,
    /// In years.
    pub(crate) age: u64,
    pub(crate) pur_power: u64,
}

impl UserFeatures {
    pub(crate) fn of(user: u32) -> UserFeatures {
        let bits = mix(0x7573_6572 ^ u64::from(user) << 32);
        // The smaller of two ages: the young shop more.
        let age = 16 + ((bits >> 8) % 55).min((bits >> 24) % 55);
        UserFeatures { sex: bits % 2, age, pur_power: 1 + (bits >> 40) % 7 }
    }

    /// The age's bucket: under 30, under 40, under 50, else (contract, section 8).
    pub(crate) fn age_bucket(&self) -> u64 {
        match self.age {
            ..30 => 1,
            30..40 => 2,
            40..50 => 3,
            _ => 4,
        }
    }
}

/// What is known of an item.
pub(crate) struct ItemFeatures {
    pub(crate) category: u64,
    pub(crate) shop: u64,
    pub(crate) brand: u64,
}

impl ItemFeatures {
    /// The category is the ring whose items follow each other; a category is sold by eight shops, which sell
    /// others too, and made by four brands of its own.
    pub(crate) fn of(item: u32) -> ItemFeatures {
        let category = u64::from(category(item));
        let bits = mix(0x6974_656D ^ u64::from(item) << 32);
        ItemFeatures {
            category: 1 + category,
            shop: 1 + mix((category << 3) | (bits % 8)) % (8 + 4 * category.next_power_of_two()),
            brand: 1 + category * 4 + (bits >> 8) % 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_in_range_and_follow_the_category() {
        for user in 0..1000 {
            let features = UserFeatures::of(user);
            assert!(features.sex < 2 && (16..=70).contains(&features.age) && (1..=7).contains(&features.pur_power));
            assert!((1..=4).contains(&features.age_bucket()));
        }
        let (a, b, other) = (ItemFeatures::of(0), ItemFeatures::of(31), ItemFeatures::of(32));
        assert_eq!(a.category, b.category);
        assert_ne!(a.category, other.category);
        assert!(a.brand.abs_diff(b.brand) < 4 && other.brand > 4);
    }

    #[test]
    fn all_age_buckets_occur() {
        let mut seen = [0; 5];
        (0..1000).for_each(|user| seen[UserFeatures::of(user).age_bucket() as usize] += 1);
        assert!(seen[1..].iter().all(|&n| n > 30), "{seen:?}");
    }
}
