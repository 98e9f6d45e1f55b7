//! After the story: phone 1001 stays on, answers whoever calls, and sends back what it hears.
//!
//! So that a real softphone has somebody to talk to. Ends when told to.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use rsip::{Method, Request};
use tokio::time::{MissedTickBehavior, interval};

use super::fault::Fault;
use super::lab_phone::Incoming;
use super::media::Media;
use super::message::call_id;
use super::sdp;
use super::story::{EXPIRES, Phone};

/// How often the phone shows that it is there; half the time that the frontend would wait.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Keepalives from one registration to the next: half of what it is registered for.
const REGISTER_EVERY: u32 = EXPIRES / 2 / 15;

/// A call that is answered with its echo.
struct Echo {
    call_id: String,
    media: Media,
    caller: SocketAddr,
}

/// Keeps the phone on until `end` comes.
pub(crate) async fn attend(mut phone: Phone, end: impl Future<Output = ()>) -> Result<(), Fault> {
    let mut echo: Option<Echo> = None;
    let mut keepalive = interval(KEEPALIVE);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0_u32;
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            request = phone.next_request() => on_request(&mut phone, &mut echo, request?).await?,
            _ = keepalive.tick() => {
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(REGISTER_EVERY) {
                    phone.register(EXPIRES).await?;
                } else {
                    phone.ping().await?;
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

async fn on_request(phone: &mut Phone, echo: &mut Option<Echo>, request: Request) -> Result<(), Fault> {
    match request.method {
        Method::Ack => Ok(()),
        Method::Invite => on_call(phone, echo, Incoming::read(request)?).await,
        Method::Bye => {
            if let Some(ended) = echo.take_if(|echo| echo.call_id == call_id(&request)) {
                ended.media.close().await?;
            }
            phone.respond(&request, (200, "OK")).await
        }
        Method::Cancel => phone.respond(&request, (481, "Call/Transaction Does Not Exist")).await,
        Method::Options => phone.respond(&request, (200, "OK")).await,
        _ => phone.respond(&request, (501, "Not Implemented")).await,
    }
}

/// The first caller gets the echo, also when he asks again (hold and resume); a second finds it busy.
async fn on_call(phone: &mut Phone, echo: &mut Option<Echo>, incoming: Incoming) -> Result<(), Fault> {
    let Some(remote) = sdp::read(incoming.offer()) else {
        return phone.reject(incoming, (488, "Not Acceptable Here")).await;
    };
    let id = incoming.call_id().to_owned();
    if echo.as_ref().is_some_and(|echo| echo.call_id != id) {
        return phone.reject(incoming, (486, "Busy Here")).await;
    }
    let media = match echo.take() {
        Some(echo) => echo.media,
        None => Media::open(phone.ip()).await?,
    };
    let description = sdp::describe(media.local(), media.candidates());
    *echo = Some(Echo { call_id: id, media, caller: remote.audio });
    phone.accept(&incoming, &description).await.map(drop)
}
