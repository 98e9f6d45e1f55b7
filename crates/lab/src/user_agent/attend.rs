//! A phone that nobody sits at: stays on, answers whoever calls, and sends back what it hears.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use rsip::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{MissedTickBehavior, interval};

use super::{Incoming, UserAgent};
use crate::fault::Fault;
use crate::media::Media;
use crate::message::call_id;
use crate::sdp;

/// How often the phone shows that it is there; half the time that Portcullis would wait.
const KEEPALIVE_S: u32 = 15;

/// A call that is answered with its echo.
struct Echo {
    call_id: String,
    media: Media,
    caller: SocketAddr,
}

impl<S: AsyncRead + AsyncWrite + Unpin> UserAgent<S> {
    /// Stays on until `end` comes, registered for so many seconds at a time.
    pub(crate) async fn attend(mut self, expires_s: u32, end: impl Future<Output = ()>) -> Result<(), Fault> {
        // Keepalives from one registration to the next: half of what it is registered for.
        let register_every = (expires_s / 2 / KEEPALIVE_S).max(1);
        let mut echo: Option<Echo> = None;
        let mut keepalive = interval(Duration::from_secs(KEEPALIVE_S.into()));
        keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                request = self.next_request() => self.on_request(&mut echo, request?).await?,
                _ = keepalive.tick() => {
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(register_every) {
                        self.register(expires_s).await?;
                    } else {
                        self.ping().await?;
                    }
                }
                sent = send_back(&mut echo) => sent?,
            }
        }
        match echo {
            Some(echo) => echo.media.close().await,
            None => Ok(()),
        }
    }

    async fn on_request(&mut self, echo: &mut Option<Echo>, request: Request) -> Result<(), Fault> {
        match request.method {
            Method::Ack => Ok(()),
            Method::Invite => self.on_call(echo, Incoming::read(request)?).await,
            Method::Bye => {
                if let Some(ended) = echo.take_if(|echo| echo.call_id == call_id(&request)) {
                    ended.media.close().await?;
                }
                self.respond(&request, (200, "OK")).await
            }
            Method::Cancel => self.respond(&request, (481, "Call/Transaction Does Not Exist")).await,
            Method::Options => self.respond(&request, (200, "OK")).await,
            _ => self.respond(&request, (501, "Not Implemented")).await,
        }
    }

    /// The first caller gets the echo, also when he asks again (hold and resume); a second finds it busy.
    async fn on_call(&mut self, echo: &mut Option<Echo>, incoming: Incoming) -> Result<(), Fault> {
        let Some(remote) = sdp::read(incoming.offer()) else {
            return self.refuse(incoming, (488, "Not Acceptable Here")).await;
        };
        let id = incoming.call_id().to_owned();
        if echo.as_ref().is_some_and(|echo| echo.call_id != id) {
            return self.refuse(incoming, (486, "Busy Here")).await;
        }
        let media = match echo.take() {
            Some(echo) => echo.media,
            None => Media::open(self.ip()).await?,
        };
        let description = media.description();
        *echo = Some(Echo { call_id: id, media, caller: remote.audio });
        self.accept(&incoming, &description).await.map(drop)
    }
}

/// One packet of the call, back to where its audio goes; without a call, never ready.
async fn send_back(echo: &mut Option<Echo>) -> Result<(), Fault> {
    match echo {
        Some(echo) => {
            let packet = echo.media.receive().await?;
            echo.media.send(&packet.bytes, echo.caller).await
        }
        None => std::future::pending().await,
    }
}
