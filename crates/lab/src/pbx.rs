//! A small PBX: registrar and proxy over UDP, with extensions behind digest.
//!
//! Speaks to Portcullis as any PBX would, and keeps a journal of what it saw.
//!
//! ```text
//! datagram → exchange ─┬─ registrar: REGISTER, and who may call (digest.rs)
//!                      └─ proxy: everything else, without state (RFC 3261 §16.11)
//! ```

mod digest;
mod exchange;
mod journal;
mod proxy;
mod registrar;

use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use exchange::Account;
pub use journal::{CallSeen, Contact, Journal};

use crate::fault::{Fault, within};
use crate::message::MESSAGE_MAX;
use exchange::Exchange;

/// A PBX that runs until it is dropped.
#[derive(Debug)]
pub struct Pbx {
    address: SocketAddr,
    journal: watch::Receiver<Journal>,
    task: JoinHandle<()>,
}

impl Pbx {
    /// Opens a UDP port that the operating system chooses, and serves on it.
    pub async fn start(address: IpAddr, domain: &str, accounts: Vec<Account>) -> Result<Self, Fault> {
        let what = format!("open a UDP port on {address}");
        let socket = UdpSocket::bind((address, 0)).await.map_err(Fault::system(&*what))?;
        let address = socket.local_addr().map_err(Fault::system(what))?;
        let exchange = Exchange::new(address, domain, accounts)?;
        let (seen, journal) = watch::channel(Journal::default());
        let task = tokio::spawn(serve(socket, exchange, seen));
        Ok(Self { address, journal, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the journal has what is looked for.
    pub async fn seen<T>(&self, what: &str, mut find: impl FnMut(&Journal) -> Option<T>) -> Result<T, Fault> {
        let mut journal = self.journal.clone();
        let work = async {
            loop {
                if let Some(found) = find(&journal.borrow_and_update()) {
                    return Ok(found);
                }
                journal.changed().await.map_err(|_| Fault::Closed)?;
            }
        };
        within(format!("at the PBX: {what}"), work).await
    }

    /// What it saw up to now.
    pub fn journal(&self) -> Journal {
        self.journal.borrow().clone()
    }
}

impl Drop for Pbx {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, mut exchange: Exchange, seen: watch::Sender<Journal>) {
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        // An error here is a port unreachable from somebody who is gone: nothing that concerns the next.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let outgoing = exchange.on_datagram(buffer.get(..length).unwrap_or_default(), from, Instant::now());
        seen.send_if_modified(|journal| {
            let changed = *journal != *exchange.journal();
            if changed {
                journal.clone_from(exchange.journal());
            }
            changed
        });
        if let Some((to, bytes)) = outgoing
            && let Err(error) = socket.send_to(&bytes, to).await
        {
            tracing::debug!(%error, %to, "the PBX of the lab could not send");
        }
    }
}
