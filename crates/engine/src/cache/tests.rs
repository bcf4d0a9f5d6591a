use proptest::prelude::*;

use super::*;

/// What happens to a cache and to the flows of a node.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A packet of this flow passes all rules.
    Packet(u8),
    /// A flow ends.
    End(u8),
    /// This many changes deny something, one after the other.
    Changes(u8),
    /// Stamps are cleared, or not all of them.
    Clear(bool),
    /// Clearing begins, and ends with the next [`Event::Clear`].
    BeginClear,
    /// Another agent finds the table.
    Restart,
    /// The table is replaced.
    Replace,
    /// A batch fails after the suspension, and the table is read.
    Read,
}

/// A cache, its rules in the kernel, and the marks in conntrack.
struct World {
    slice: Slice,
    cache: Cache,
    marks: std::collections::BTreeMap<u8, Stamp>,
    /// The flows whose stamp an earlier change made void.
    void: BTreeSet<u8>,
    longest: u32,
}

impl World {
    fn new(slice: Slice) -> Self {
        Self { slice, cache: Cache::new(Some(slice)), marks: [].into(), void: [].into(), longest: 0 }
    }

    fn suspend(&mut self) {
        let operations = self.cache.suspend();
        if !operations.is_empty() {
            self.void.extend(self.marks.keys());
        }
    }

    /// No flow may have the stamp that comes into use.
    fn resume(&mut self) -> Result<(), TestCaseError> {
        if self.cache.resume().is_some() {
            let stamp = self.cache.active().unwrap();
            prop_assert!(self.marks.values().all(|mark| *mark != stamp), "{stamp:?} is used again");
            self.longest += 1;
        }
        Ok(())
    }

    fn clear(&mut self, all: bool) {
        let Some((stale, _)) = self.cache.clearing else { return };
        if all {
            self.marks.retain(|_, mark| !stale.is_in(mark.bits().value));
        }
        self.cache.cleared(all);
    }

    fn happens(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Packet(flow) => {
                if let Some(stamp) = self.cache.active() {
                    let hit = self.marks.get(&flow) == Some(&stamp);
                    prop_assert!(!(hit && self.void.contains(&flow)), "a void stamp is honoured");
                    self.marks.insert(flow, stamp);
                    self.void.remove(&flow);
                }
            }
            Event::End(flow) => {
                self.marks.remove(&flow);
                self.void.remove(&flow);
            }
            Event::Changes(number) => {
                for _ in 0..number {
                    self.suspend();
                    self.resume()?;
                }
            }
            Event::BeginClear => drop(self.cache.clear()),
            Event::Clear(all) => {
                self.cache.clear();
                self.clear(all);
                self.resume()?;
            }
            Event::Restart => {
                let found = self.cache.active();
                self.cache = Cache::new(Some(self.slice));
                assert!(!self.cache.adopt(found));
            }
            Event::Replace => {
                self.void.extend(self.marks.keys());
                self.cache.begin();
            }
            Event::Read => {
                let found = self.cache.active();
                assert!(!self.cache.adopt(found));
            }
        }
        Ok(())
    }
}

fn arb_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..20_u8).prop_map(Event::Packet),
        1 => (0..20_u8).prop_map(Event::End),
        6 => (1..60_u8).prop_map(Event::Changes),
        4 => any::<bool>().prop_map(Event::Clear),
        2 => Just(Event::BeginClear),
        1 => Just(Event::Restart),
        1 => Just(Event::Replace),
        1 => Just(Event::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn no_flow_has_a_stamp_that_comes_into_use(events in prop::collection::vec(arb_event(), 1..120)) {
        let mut world = World::new(Slice::new(0xff00).unwrap());
        for event in events {
            world.happens(event)?;
        }
    }
}

/// An idle flow keeps its stamp while all numbers are used several times.
#[test]
fn a_stamp_is_not_honoured_when_its_number_comes_again() {
    let mut world = World::new(Slice::new(0xff).unwrap());
    world.happens(Event::Clear(true)).unwrap();
    for number in 0..2_000_u32 {
        let flow = u8::try_from(number % 250).unwrap();
        world.happens(Event::Packet(flow)).unwrap();
        world.happens(Event::Changes(1)).unwrap();
        world.happens(Event::Clear(number % 3 == 0)).unwrap();
    }
    assert!(world.longest > 1_900, "{}", world.longest);
}

#[test]
fn without_a_cleared_half_the_cache_waits() {
    let mut world = World::new(Slice::new(0xff).unwrap());
    world.happens(Event::Clear(false)).unwrap();
    assert_eq!(world.cache.active(), None);
    world.happens(Event::Clear(true)).unwrap();
    let first = world.cache.active().unwrap();
    assert_eq!((first.number(), first.half()), (1, Half::Low));
    // 127 stamps of the lower half, and 128 of the upper one.
    for _ in 1..255 {
        world.happens(Event::Changes(1)).unwrap();
    }
    let last = world.cache.active().unwrap();
    assert_eq!((last.number(), last.half()), (255, Half::High));
    assert!(!world.cache.is_settled(), "the lower half is to be cleared");
    world.happens(Event::Changes(1)).unwrap();
    assert_eq!(world.cache.active(), None);
    world.happens(Event::Clear(true)).unwrap();
    assert_eq!(world.cache.active().map(Stamp::number), Some(1));
}

#[test]
fn a_result_from_before_the_table_was_replaced_does_not_count() {
    let mut cache = Cache::new(Some(Slice::default()));
    assert!(cache.clear().is_some());
    cache.begin();
    assert_eq!(cache.clear(), None, "one at a time");
    cache.cleared(true);
    assert_eq!(cache.resume(), None);
    assert!(cache.clear().is_some());
    cache.cleared(true);
    assert!(cache.resume().is_some());
}

#[test]
fn rules_with_other_bits_are_suspended() {
    let other = Slice::new(0xff).unwrap().first();
    let mut cache = Cache::new(Some(Slice::default()));
    assert!(cache.adopt(Some(other)));
    assert_eq!(cache.clear(), None, "its rules still write stamps");
    assert_eq!(cache.suspend().len(), 2);
    assert_eq!(cache.clear(), Some(Stale { slice: Slice::default(), half: None }));
}

#[test]
fn without_bits_there_is_no_cache() {
    let mut cache = Cache::new(None);
    assert!(cache.is_settled());
    assert_eq!((cache.resume(), cache.clear()), (None, None));
    // The table of an agent that had one.
    assert!(cache.adopt(Some(Slice::default().first())));
    assert_eq!(cache.suspend().len(), 2);
    assert!(cache.is_settled());
}
