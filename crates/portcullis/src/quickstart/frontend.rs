//! The frontend of the quickstart: `portcullis run` with the quickstart's file, in this process, and asked by
//! its admin socket as any operator would.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_lab::in_time;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};
use wire::net::{Side, Transport};

use super::fault::Fault;
use crate::admin::client::{ClientError, ask};
use crate::admin::protocol::{Request, Response};
use crate::clock::Clock;
use crate::config::{self, Loaded};
use crate::log::Log;
use crate::run::{self, Running};

/// Between two looks at something that tells nobody when it changes.
const LOOK: Duration = Duration::from_millis(10);

/// A frontend that runs until it is stopped.
pub(crate) struct Frontend {
    running: Running,
    operator: Operator,
}

impl Frontend {
    /// Starts what `portcullis run -c FILE` would start.
    pub(crate) fn start(file: &Path, clock: Clock, log: Log) -> Result<Self, Fault> {
        let Loaded { settings, report } = config::load(file, clock.wall());
        let Some(settings) = settings else {
            return Err(Fault::Configuration(report.draw_errors()));
        };
        let operator = Operator { socket: settings.node.admin_socket.value.clone() };
        let running = run::start(settings, clock, log)?;
        Ok(Self { running, operator })
    }

    /// `tls 127.0.0.2:5061`, …
    pub(crate) fn listening(&self) -> String {
        self.running.listeners().join(", ")
    }

    /// Where phones connect.
    pub(crate) fn tls(&self) -> Result<SocketAddr, Fault> {
        self.running.address(Side::Outside, Transport::Tls).ok_or_else(|| Fault::unlike("it has no TLS port"))
    }

    /// Whoever asks it.
    pub(crate) fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Ends it.
    pub(crate) fn stop(self) {
        self.running.stop();
    }
}

/// Somebody at the admin socket.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    socket: PathBuf,
}

impl Operator {
    /// The status, once it satisfies.
    pub(crate) async fn status(&self, what: &str, good: impl Fn(&Value) -> bool) -> Result<Value, Fault> {
        let look = async || match self.ask(Request::Status).await? {
            Response::Object(status) => Ok(Some(status).filter(|status| good(status))),
            other => Err(Fault::unlike(format!("the status is {other:?}"))),
        };
        self.until(what, look).await
    }

    /// The first row of an answer that satisfies, once there is one.
    pub(crate) async fn row(
        &self,
        what: &str,
        request: Request,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value, Fault> {
        let look = async || match self.ask(request.clone()).await? {
            Response::Rows(rows) => Ok(rows.into_iter().find(|row| good(row))),
            other => Err(Fault::unlike(format!("the answer is {other:?}"))),
        };
        self.until(what, look).await
    }

    async fn until<T, F: Future<Output = Result<Option<T>, Fault>>>(
        &self,
        what: &str,
        look: impl Fn() -> F,
    ) -> Result<T, Fault> {
        let mut again = interval(LOOK);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                again.tick().await;
                if let Some(found) = look().await? {
                    return Ok(found);
                }
            }
        };
        in_time(format!("at the admin socket: {what}"), work).await?
    }

    async fn ask(&self, request: Request) -> Result<Response, Fault> {
        let socket = self.socket.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&socket, &request)).await;
        asked.unwrap_or_else(|_| Err(ClientError::NotRunning(self.socket.clone()))).map_err(Fault::from)
    }
}
