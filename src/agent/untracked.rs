//! Notices in the drop counters that packets of isolated pods are untracked: `palisade trace` allows their flows, so
//! nothing else would say why they are dropped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palisade_dataplane::table::Count;
use palisade_policy::input::{Direction, Family};
use palisade_ruleset::name::Name;
use palisade_ruleset::render::Reason;

/// The minimum time from one warning to the next. Clients retry now and then, so a counter rests between two packets.
const EVERY: Duration = Duration::from_secs(600);

/// The counters of untracked packets, as last read.
#[derive(Debug, Default)]
pub(super) struct Untracked {
    /// Packets of egress and of ingress; none before the first reading.
    last: Option<[u64; 2]>,
    warned: Option<Instant>,
}

impl Untracked {
    /// The packets of egress and of ingress that were dropped since the last reading, if that is worth a warning.
    pub(super) fn read(&mut self, counters: &BTreeMap<Name, Count>, now: Instant) -> Option<[u64; 2]> {
        let packets = |direction| {
            let of =
                |family| counters.get(&Reason::Untracked(direction).counter(family)).map_or(0, |count| count.packets);
            Family::ALL.into_iter().map(of).sum()
        };
        let counted = Direction::ALL.map(packets);
        // The counters of a table outlive the agent, and a new table's begin at 0.
        let [was_out, was_in] = self.last.replace(counted)?;
        let [out, into] = counted;
        let grown = [out.saturating_sub(was_out), into.saturating_sub(was_in)];
        let is_due = self.warned.is_none_or(|warned| now.saturating_duration_since(warned) >= EVERY);
        if grown == [0, 0] || !is_due {
            return None;
        }
        self.warned = Some(now);
        Some(grown)
    }
}

#[cfg(test)]
mod tests {
    //! Seen to fail when: a table's old counts are a warning; every reading is one; only one direction or family counts;
    //! no second one comes after the time; another reason's packets count.

    use super::*;

    fn counters(of: &[(Reason, Family, u64)]) -> BTreeMap<Name, Count> {
        of.iter()
            .map(|(reason, family, packets)| (reason.counter(*family), Count { packets: *packets, bytes: 0 }))
            .collect()
    }

    #[test]
    fn growth_is_reported_once_in_a_while() {
        let (egress, ingress) = (Reason::Untracked(Direction::Egress), Reason::Untracked(Direction::Ingress));
        let other = Reason::Policy(Direction::Egress);
        let began = Instant::now();
        let mut untracked = Untracked::default();
        let mut read = |after: u64, of: &[(Reason, Family, u64)]| {
            untracked.read(&counters(of), began + Duration::from_secs(after))
        };
        assert_eq!(read(0, &[(egress, Family::V4, 7)]), None, "the counts that an earlier agent left");
        assert_eq!(read(10, &[(egress, Family::V4, 7), (other, Family::V4, 9)]), None, "another reason");
        assert_eq!(
            read(20, &[(egress, Family::V4, 8), (egress, Family::V6, 2), (ingress, Family::V6, 1)]),
            Some([3, 1])
        );
        assert_eq!(read(30, &[(egress, Family::V4, 9)]), None, "so soon");
        assert_eq!(read(619, &[(egress, Family::V4, 10)]), None, "the time has passed, but for a second");
        assert_eq!(read(620, &[(egress, Family::V4, 10)]), None, "nothing was dropped since");
        assert_eq!(read(640, &[(ingress, Family::V4, 5)]), Some([0, 5]), "in a new table");
    }
}
