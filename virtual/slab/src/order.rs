//! How many pages a slab has.
//!
//! Source: Linux 5.10–7.2 mm/slub.c `calculate_order`, `calc_slab_order`.

use kernmem_base::{Era, Granule, Order};

/// Largest order that a slab has by choice.
pub const SLUB_MAX_ORDER: u8 = 3;
/// Objects that a slab may have: the counter's width.
pub const MAX_OBJECTS: u64 = 32767;
/// Largest order that there is.
const MAX_PAGE_ORDER: u8 = 10;

/// The smallest order that holds `bytes`.
#[must_use]
pub const fn order_for(granule: Granule, bytes: u64) -> Order {
    let pages = bytes.div_ceil(granule.bytes());
    Order(if pages <= 1 { 0 } else { (pages - 1).ilog2() as u8 + 1 })
}

/// Objects that a CPU count asks a slab to have: `4 * (fls(cpus) + 1)`.
const fn min_objects(cpus: u32) -> u64 {
    let width = u32::BITS - cpus.leading_zeros();
    4 * (width as u64 + 1)
}

struct Sizes {
    granule: Granule,
    slot: u64,
}

impl Sizes {
    const fn objects(&self, order: u8) -> u64 {
        (self.granule.bytes() << order) / self.slot
    }

    /// The smallest order in `[from, last]` that wastes at most one part in `fraction`; `None` if each wastes more.
    fn fitting(&self, from: u8, last: u8, fraction: u64) -> Option<u8> {
        (from..=last).find(|&order| {
            let slab = self.granule.bytes() << order;
            slab % self.slot <= slab / fraction
        })
    }

    /// `from`, lowered where a slab of that order would have more objects than can be counted.
    fn capped(&self) -> u8 {
        order_for(self.granule, self.slot * MAX_OBJECTS).0.saturating_sub(1)
    }
}

/// The order of the slabs of a cache whose slots have `slot` bytes, on a machine of `cpus` CPUs; `None` if no order is
/// large enough.
///
/// | era | how |
/// |---|---|
/// | 4.14 | as 5.10 (UNVERIFIED) |
/// | 5.10, 6.1 | fewer and fewer objects, for each the wastes 1/16, 1/8, 1/4; then one object |
/// | 6.12, 7.2 | the wastes 1/16, 1/8, 1/4, 1/2 from one least order; then the order of one object |
///
/// `cpus` are the possible CPUs up to 5.10 and the present ones later.
///
/// Source: Linux 5.10–7.2 mm/slub.c `calculate_order`.
#[must_use]
pub fn slab_order(era: Era, granule: Granule, slot: u64, cpus: u32) -> Option<Order> {
    let sizes = Sizes { granule, slot: slot.max(1) };
    if sizes.objects(0) > MAX_OBJECTS {
        return Some(Order(sizes.capped()));
    }
    let order = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => by_fewer_objects(&sizes, cpus),
        Era::V6_12 | Era::V7_2 => by_more_waste(&sizes, cpus),
    };
    (order <= MAX_PAGE_ORDER).then_some(Order(order))
}

fn by_fewer_objects(sizes: &Sizes, cpus: u32) -> u8 {
    let most = min_objects(cpus).min(sizes.objects(SLUB_MAX_ORDER));
    for objects in (2..=most).rev() {
        let from = order_for(sizes.granule, objects * sizes.slot).0;
        if let Some(order) = [16, 8, 4].into_iter().find_map(|part| sizes.fitting(from, SLUB_MAX_ORDER, part)) {
            return order;
        }
    }
    // One object: any waste is borne, and an order beyond the usual is the last resort.
    order_for(sizes.granule, sizes.slot).0
}

fn by_more_waste(sizes: &Sizes, cpus: u32) -> u8 {
    let objects = min_objects(cpus).min(sizes.objects(SLUB_MAX_ORDER).max(1));
    let from = order_for(sizes.granule, objects * sizes.slot).0;
    let chosen = [16, 8, 4, 2].into_iter().find_map(|part| sizes.fitting(from, SLUB_MAX_ORDER, part));
    chosen.unwrap_or(order_for(sizes.granule, sizes.slot).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slot sizes of the table below.
    const SLOTS: [u64; 11] = [64, 128, 192, 256, 512, 1024, 2048, 4096, 8192, 632, 1088];

    /// CPUs, then order and objects for each slot size, with 4K pages.
    #[rustfmt::skip]
    const TABLE: [(u32, [(u8, u64); 11]); 6] = [
        (1, [(0, 64), (0, 32), (0, 21), (0, 16), (0, 8), (1, 8), (2, 8), (3, 8), (3, 4), (2, 25), (2, 15)]),
        (3, [(0, 64), (0, 32), (0, 21), (0, 16), (1, 16), (2, 16), (3, 16), (3, 8), (3, 4), (2, 25), (2, 15)]),
        (4, [(0, 64), (0, 32), (0, 21), (0, 16), (1, 16), (2, 16), (3, 16), (3, 8), (3, 4), (2, 25), (3, 30)]),
        (15, [(0, 64), (0, 32), (0, 21), (1, 32), (2, 32), (3, 32), (3, 16), (3, 8), (3, 4), (2, 25), (3, 30)]),
        (16, [(0, 64), (0, 32), (1, 42), (1, 32), (2, 32), (3, 32), (3, 16), (3, 8), (3, 4), (2, 25), (3, 30)]),
        (64, [(0, 64), (0, 32), (1, 42), (1, 32), (2, 32), (3, 32), (3, 16), (3, 8), (3, 4), (3, 51), (3, 30)]),
    ];

    #[test]
    fn orders_follow_from_cpus_and_slot_size_in_both_algorithms() {
        for (cpus, row) in TABLE {
            for (slot, (order, objects)) in SLOTS.into_iter().zip(row) {
                for era in [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2] {
                    let found = slab_order(era, Granule::K4, slot, cpus);
                    assert_eq!(found, Some(Order(order)), "{era}: {slot} bytes, {cpus} CPUs");
                    assert_eq!((4096 << order) / slot, objects);
                }
            }
        }
    }

    #[test]
    fn a_slab_has_no_more_objects_than_can_be_counted() {
        // 64 KiB of single bytes are 65536 objects.
        assert_eq!(slab_order(Era::V6_1, Granule::K64, 1, 2), Some(Order(0)));
        assert_eq!(slab_order(Era::V6_1, Granule::K4, 8 << 20, 2), None);
    }
}
