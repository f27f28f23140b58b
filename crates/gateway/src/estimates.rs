//! How often a route's charges rest on estimates: a provider that stops reporting is noticed (MTR-28).

use dashmap::DashMap;
use ledger::IdHashes;

/// So many charges are looked at together.
const CHARGES: u32 = 100;
/// More estimates among them are told, in hundredths.
const SHARE_MAX: u32 = 2;

/// Charges and estimates of each route since they were last looked at.
#[derive(Debug, Default)]
pub(crate) struct Estimates(DashMap<String, (u32, u32), IdHashes>);

impl Estimates {
    /// Counts a charge. The number of estimates among the last hundred, if there were too many.
    pub(crate) fn count(&self, route: &str, estimated: bool) -> Option<u32> {
        if !estimated && !self.0.contains_key(route) {
            // Nothing to tell before the first estimate.
            return None;
        }
        let mut entry = self.0.entry(route.to_owned()).or_default();
        entry.0 += 1;
        entry.1 += u32::from(estimated);
        if entry.0 < CHARGES {
            return None;
        }
        let (_, estimates) = std::mem::take(&mut *entry);
        (estimates * 100 > CHARGES * SHARE_MAX).then_some(estimates)
    }
}

#[cfg(test)]
mod tests {
    use super::Estimates;

    #[test]
    fn more_than_two_in_a_hundred_are_told() {
        for (every, expected) in [(50, None), (34, Some(3)), (33, Some(4)), (10, Some(10)), (1, Some(100))] {
            let estimates = Estimates::default();
            let told: Vec<_> = (0..100).filter_map(|at| estimates.count("r", at % every == 0)).collect();
            assert_eq!(told.first().copied(), expected, "every {every}");
        }
    }
}
