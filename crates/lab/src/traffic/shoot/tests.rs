//! How a batch judges the ids that arrive.

use super::*;

#[test]
fn ids_of_other_batches_are_late() {
    let mut tally = Tally { first: u32::MAX, places: vec![None; 3], late: Vec::new() };
    // The ids of this batch wrap around: MAX, 0, 1.
    tally.note(u32::MAX, 7);
    tally.note(1, 8);
    tally.note(2, 9);
    tally.note(u32::MAX - 1, 10);
    assert_eq!(tally.places, [Some(7), None, Some(8)]);
    assert_eq!(tally.late, [9, 10]);
}
