//! The block list and the allow list as the network's threads hold them: one snapshot, replaced whole.

use std::net::IpAddr;
use std::sync::Arc;

use wire::net::{FlowId, PrefixSet};

/// What is tested before everything else, on the outside face.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    blocked: Arc<PrefixSet>,
    allowed: Arc<PrefixSet>,
    spared: Vec<FlowId>,
}

impl Lists {
    /// Takes over the lists that the core made: sources that get not a byte, sources with the larger
    /// limits, and flows of blocked sources that go on all the same.
    pub fn new(blocked: Arc<PrefixSet>, allowed: Arc<PrefixSet>, spared: &[FlowId]) -> Self {
        let mut spared = spared.to_vec();
        spared.sort_unstable();
        Self { blocked, allowed, spared }
    }

    pub(crate) fn is_blocked(&self, source: IpAddr) -> bool {
        self.blocked.contains(source)
    }

    pub(crate) fn is_blocked_flow(&self, source: IpAddr, flow: FlowId) -> bool {
        self.blocked.contains(source) && self.spared.binary_search(&flow).is_err()
    }

    pub(crate) fn is_allowed(&self, source: IpAddr) -> bool {
        self.allowed.contains(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::net::Prefix;

    #[test]
    fn spared_flows_survive_a_block_of_their_source() {
        let source = IpAddr::from([198, 51, 100, 7]);
        let blocked = PrefixSet::from_prefixes([Prefix::single(source)]);
        let lists = Lists::new(Arc::new(blocked), Arc::default(), &[FlowId(9), FlowId(3)]);
        assert!(lists.is_blocked(source));
        assert!(lists.is_blocked_flow(source, FlowId(4)));
        assert!(!lists.is_blocked_flow(source, FlowId(3)));
        assert!(!lists.is_blocked_flow(IpAddr::from([198, 51, 100, 8]), FlowId(4)));
        assert!(!lists.is_allowed(source));
    }
}
