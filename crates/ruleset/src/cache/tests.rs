use super::*;
use crate::model::Chain;

fn slices() -> impl Iterator<Item = Slice> {
    [0xffff_0000, 0xff00_0000, 0x0000_ff00, 0x7fff_ffff, 0xff].into_iter().map(|mask| Slice::new(mask).unwrap())
}

#[test]
fn a_slice_is_a_run_of_bits() {
    for mask in [0, 1, 0x7f, 0xffff_ffff, 0xff00_ff00, 0xffff_0001] {
        assert_eq!(Slice::new(mask), Err(NotASlice(mask)));
    }
    assert_eq!(Slice::default().size(), 65_535);
    assert_eq!(slices().map(Slice::size).collect::<Vec<_>>(), [65_535, 255, 255, 0x7fff_ffff, 255]);
}

#[test]
fn stamps_follow_each_other_and_begin_again_without_zero() {
    let slice = Slice::new(0xff00).unwrap();
    let mut stamp = slice.first();
    let mut halves = vec![stamp.half()];
    for number in 1..=255 {
        assert_eq!((stamp.number(), slice.stamp(stamp.bits().value)), (number, Some(stamp)));
        assert_eq!(stamp.bits(), MarkBits { mask: 0xff00, value: number << 8 });
        stamp = stamp.next();
        if halves.last() != Some(&stamp.half()) {
            halves.push(stamp.half());
        }
    }
    assert_eq!((stamp, halves), (slice.first(), vec![Half::Low, Half::High, Half::Low]));
    assert_eq!(slice.stamp(0xffff_00ff), None);
}

#[test]
fn the_halves_are_those_of_the_first_bit() {
    for slice in slices() {
        let high = |number: u32| Stamp { slice, number }.half() == Half::High;
        let half = slice.size() / 2;
        assert_eq!([1, half, half + 1, slice.size()].map(high), [false, false, true, true]);
    }
}

#[test]
fn stale_stamps_are_found_in_marks() {
    let slice = Slice::new(0xff00).unwrap();
    let both = Stale { slice, half: None };
    let high = Stale { slice, half: Some(Half::High) };
    let marks = [0, 0xff, 0x1_0000, 0x100, 0x7f00, 0x8000, 0xff12];
    assert_eq!(marks.map(|mark| both.is_in(mark)), [false, false, false, true, true, true, true]);
    assert_eq!(marks.map(|mark| high.is_in(mark)), [false, false, false, false, false, true, true]);
}

#[test]
fn the_rules_of_a_stamp_are_taken_out_of_a_table() {
    let empty = || Ruleset {
        chains: [ACCEPT, STAMP].map(|name| (Name::new(name), Chain::default())).into(),
        ..Ruleset::default()
    };
    let filled = |change: &dyn Fn(&mut Ruleset)| {
        let mut ruleset = empty();
        for operation in resume(Slice::default().first().next()).operations {
            let Operation::AppendRules(chain, rules) = operation else { panic!("{operation:?}") };
            ruleset.chains.get_mut(&chain).unwrap().rules = rules;
        }
        change(&mut ruleset);
        ruleset
    };
    let mut ruleset = filled(&|_| {});
    assert_eq!(take(&mut ruleset).map(Stamp::number), Some(2));
    assert_eq!(ruleset, empty());
    assert_eq!(take(&mut ruleset), None);
    let rules =
        |ruleset: &mut Ruleset, chain| std::mem::take(&mut ruleset.chains.get_mut(&Name::new(chain)).unwrap().rules);
    let foreign: [&dyn Fn(&mut Ruleset); 3] = [
        &|ruleset| drop(rules(ruleset, ACCEPT)),
        &|ruleset| drop(rules(ruleset, STAMP)),
        // As if somebody had another number accepted than the one that is written.
        &|ruleset| {
            let other = Slice::default().first().accept();
            ruleset.chains.get_mut(&Name::new(ACCEPT)).unwrap().rules = vec![other];
        },
    ];
    for change in foreign {
        let mut changed = filled(change);
        let before = changed.clone();
        assert_eq!(take(&mut changed), None);
        assert_eq!(changed, before);
    }
}
