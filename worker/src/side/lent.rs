//! Who has memory of replicas: other processes, each as long as its connection lasts. Of replicas that are gone that is memory of the
//! device that nobody else can have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_domain::{Bytes, ReplicaId};

/// All loans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lent(Arc<Mutex<Loans>>);

#[derive(Debug, Default)]
struct Loans {
    /// So far.
    count: u64,
    all: BTreeMap<u64, Loan>,
}

#[derive(Debug)]
struct Loan {
    replica: ReplicaId,
    bytes: Bytes,
    process: Option<i32>,
    /// Its replica is not there any more.
    is_left: bool,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lending {
    lent: Lent,
    number: u64,
}

impl Lent {
    fn loans(&self) -> MutexGuard<'_, Loans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process has a replica's memory from now on.
    pub(super) fn begin(&self, replica: ReplicaId, bytes: Bytes, process: Option<i32>) -> Lending {
        let mut loans = self.loans();
        loans.count += 1;
        let number = loans.count;
        loans.all.insert(number, Loan { replica, bytes, process, is_left: false });
        Lending { lent: self.clone(), number }
    }

    /// Whether anybody has anything.
    pub(crate) fn is_any(&self) -> bool {
        !self.loans().all.is_empty()
    }

    /// Of replicas that are gone: bytes, each replica's once, and how many processes have them. One that the kernel does not name
    /// counts by itself.
    pub(crate) fn left(&self) -> (Bytes, u32) {
        let loans = self.loans();
        let left = || loans.all.iter().filter(|(_, loan)| loan.is_left);
        let replicas: BTreeMap<ReplicaId, u64> =
            left().map(|(_, loan)| (loan.replica, loan.bytes.0)).collect();
        let processes: BTreeMap<(Option<i32>, u64), ()> =
            left().map(|(number, loan)| ((loan.process, loan.process.map_or(*number, |_| 0)), ())).collect();
        let bytes = replicas.into_values().fold(0, u64::saturating_add);
        (Bytes(bytes), u32::try_from(processes.len()).unwrap_or(u32::MAX))
    }
}

impl Lending {
    /// The replica is gone; the process has its memory all the same.
    pub(super) fn is_left(&self) {
        if let Some(loan) = self.lent.loans().all.get_mut(&self.number) {
            loan.is_left = true;
        }
    }
}

impl Drop for Lending {
    fn drop(&mut self) {
        self.lent.loans().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn what_is_left_counts_once_a_replica_and_once_a_process() {
        let lent = Lent::default();
        let replica = |number| ReplicaId(Uuid::from_u128(number));
        assert_eq!((lent.is_any(), lent.left()), (false, (Bytes(0), 0)));
        let one = lent.begin(replica(1), Bytes(10), Some(7));
        let again = lent.begin(replica(1), Bytes(10), Some(8));
        let other = lent.begin(replica(2), Bytes(5), Some(7));
        assert_eq!((lent.is_any(), lent.left()), (true, (Bytes(0), 0)), "all of it is there");
        [&one, &again, &other].into_iter().for_each(Lending::is_left);
        assert_eq!(lent.left(), (Bytes(15), 2));
        drop(one);
        assert_eq!(lent.left(), (Bytes(15), 2), "another has it, too");
        drop(again);
        assert_eq!(lent.left(), (Bytes(5), 1));
        let unknown = [lent.begin(replica(3), Bytes(1), None), lent.begin(replica(4), Bytes(1), None)];
        unknown.iter().for_each(Lending::is_left);
        assert_eq!(lent.left(), (Bytes(7), 3));
        drop((other, unknown));
        assert!(!lent.is_any());
    }
}
