//! The proxy half of the PBX: one request, one or several branches, the best answer (RFC 3261 §16.7).

use std::net::SocketAddr;

use crate::act::Stage;
use crate::pbx::Pbx;
use crate::text::Text;
use crate::transactions::Key;

/// A request that was passed on.
#[derive(Debug)]
pub(crate) struct Fork {
    branches: Vec<Branch>,
    /// A final answer went back.
    answered: bool,
    best: Option<Text>,
}

#[derive(Debug)]
struct Branch {
    key: Key,
    done: bool,
}

impl Pbx {
    /// Passes a request on to every target.
    pub(crate) fn fork(
        &mut self,
        text: Text,
        key: &Key,
        targets: &[(String, SocketAddr)],
        record: bool,
        stage: &mut Stage<'_>,
    ) {
        let invite = text.method() == "INVITE";
        if invite {
            self.respond(key, 100, |text| text, stage);
        }
        let left = text.header("Max-Forwards").parse::<u8>().unwrap_or(70);
        if left == 0 {
            return self.respond(key, 483, |text| text, stage);
        }
        let mut branches = Vec::new();
        for (uri, to) in targets {
            let mut copy = text.clone();
            copy.start = format!("{} {uri} SIP/2.0", text.method());
            copy.remove("Max-Forwards");
            copy.push_front("Max-Forwards", left - 1);
            copy.remove("Proxy-Authorization");
            if invite && record {
                for route in self.recorded().iter().rev() {
                    copy.push_front("Record-Route", route);
                }
            }
            let path = self.path_to(*to, stage);
            let branch = self.agent.transactions.request(copy, &self.address.to_string(), path, stage);
            branches.push(Branch { key: branch, done: false });
        }
        self.forks.insert(key.clone(), Fork { branches, answered: false, best: None });
    }

    fn fork_of(&self, branch: &Key) -> Option<Key> {
        self.forks
            .iter()
            .find(|(_, fork)| fork.branches.iter().any(|own| own.key == *branch))
            .map(|(key, _)| key.clone())
    }

    /// An answer on a branch; false where it is not the proxy's.
    pub(crate) fn on_branch_response(&mut self, branch: &Key, text: &Text, stage: &mut Stage<'_>) -> bool {
        let Some(key) = self.fork_of(branch) else { return false };
        let code = text.code().unwrap_or(0);
        let mut upward = text.clone();
        upward.take_first("Via");
        let Some(fork) = self.forks.get_mut(&key) else { return true };
        match code {
            0..=100 => {}
            101..=199 => {
                if !fork.answered {
                    self.agent.transactions.respond(&key, upward, false, stage);
                }
            }
            _ => {
                if let Some(own) = fork.branches.iter_mut().find(|own| own.key == *branch) {
                    own.done = true;
                }
                if code < 300 {
                    fork.answered = true;
                    self.agent.transactions.respond(&key, upward, false, stage);
                    self.cancel_branches(&key, stage);
                } else {
                    fork.best.get_or_insert(upward);
                    self.conclude(&key, stage);
                }
            }
        }
        true
    }

    /// A branch that nobody answered.
    pub(crate) fn on_branch_lost(&mut self, branch: &Key, stage: &mut Stage<'_>) {
        let Some(key) = self.fork_of(branch) else { return };
        if let Some(fork) = self.forks.get_mut(&key)
            && let Some(own) = fork.branches.iter_mut().find(|own| own.key == *branch)
        {
            own.done = true;
        }
        self.conclude(&key, stage);
    }

    fn conclude(&mut self, key: &Key, stage: &mut Stage<'_>) {
        let Some(fork) = self.forks.get_mut(key) else { return };
        if fork.answered || fork.branches.iter().any(|branch| !branch.done) {
            return;
        }
        fork.answered = true;
        match fork.best.take() {
            Some(best) => self.agent.transactions.respond(key, best, false, stage),
            None => self.respond(key, 408, |text| text, stage),
        }
    }

    pub(crate) fn cancel_branches(&mut self, key: &Key, stage: &mut Stage<'_>) {
        let Some(fork) = self.forks.get(key) else { return };
        let open: Vec<Key> =
            fork.branches.iter().filter(|branch| !branch.done).map(|branch| branch.key.clone()).collect();
        for branch in open {
            self.agent.transactions.cancel(&branch, stage);
        }
    }

    /// What the transactions have forgotten need not be known here.
    pub(crate) fn forget_forks(&mut self) {
        let transactions = &self.agent.transactions;
        self.forks.retain(|key, fork| {
            transactions.asked(key).is_some()
                || fork.branches.iter().any(|branch| transactions.sent(&branch.key).is_some())
        });
    }
}
