//! The beginning of the story: certificates, the frontend, the PBX, and two phones that register.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_lab::{Account, Authority, Journal, Owner, Pbx, Phone};
use rustls::ClientConfig;

use crate::admin::protocol::Request;
use crate::clock::Clock;
use crate::log::Log;
use crate::quickstart::cast::{DOMAIN, Extension, INSIDE, OUTSIDE, PBX, PHONES, extensions};
use crate::quickstart::directory::Directory;
use crate::quickstart::fault::Fault;
use crate::quickstart::frontend::Frontend;
use crate::quickstart::output::{Failed, Output};
use crate::quickstart::{certificates, configuration};

/// What a phone asks for.
pub(crate) const EXPIRES_S: u32 = 120;

/// Who can shake hands as whom.
pub(crate) struct Papers {
    /// Phone 1001.
    pub first: Arc<ClientConfig>,
    /// Phone 1002.
    pub second: Arc<ClientConfig>,
    /// Somebody with a certificate of another CA.
    pub stranger: Arc<ClientConfig>,
}

/// Everything in place.
pub(crate) struct Scene {
    /// For those who connect.
    pub papers: Papers,
    /// Running.
    pub frontend: Frontend,
    /// Where phones connect to it.
    pub server: SocketAddr,
    /// Running.
    pub pbx: Pbx,
    /// 1001 and 1002.
    pub extensions: [Extension; 2],
}

/// Makes everything, starts everything.
pub(crate) async fn set<W: Write>(
    directory: &Directory,
    (clock, log): (Clock, Log),
    out: &mut Output<W>,
) -> Result<Scene, Failed> {
    let (papers, extensions) = out.step("certificates", async { make_papers(directory, clock) }).await?;
    let pbx = out.step("lab PBX", start_pbx(&extensions)).await?;
    let started = start_frontend(directory, &pbx, &extensions, (clock, log));
    let (frontend, server) = out.step("frontend", started).await?;
    Ok(Scene { papers, frontend, server, pbx, extensions })
}

fn make_papers(directory: &Directory, clock: Clock) -> Result<((Papers, [Extension; 2]), String), Fault> {
    let now = Duration::from_millis(clock.wall().0);
    let authority = Authority::make("Portcullis quickstart CA", now)?;
    certificates::write(directory, &authority, OUTSIDE)?;
    let extensions = extensions()?;
    let [first, second] = &extensions;
    let client_of = |extension: &Extension| -> Result<Arc<ClientConfig>, Fault> {
        let identity = certificates::write_phone(directory, &authority, &extension.hardware_id)?;
        Ok(authority.client(&identity)?)
    };
    let stranger = Authority::make("Somebody else's CA", now)?.device(&first.hardware_id)?;
    let papers = Papers {
        first: client_of(first)?,
        second: client_of(second)?,
        stranger: authority.client(&stranger)?,
    };
    let days = Authority::VALID.as_secs() / (24 * 3600);
    let seen = format!(
        "a CA, a server, phones {} and {}; good for {days} days",
        first.hardware_id, second.hardware_id
    );
    Ok(((papers, extensions), seen))
}

async fn start_pbx(extensions: &[Extension]) -> Result<(Pbx, String), Fault> {
    let accounts = extensions
        .iter()
        .map(|extension| Account { number: extension.number.clone(), password: extension.password.clone() });
    let pbx = Pbx::start(PBX, DOMAIN, accounts.collect()).await?;
    let seen = format!("udp {}; registrar of {DOMAIN}, asks for digest", pbx.address());
    Ok((pbx, seen))
}

async fn start_frontend(
    directory: &Directory,
    pbx: &Pbx,
    extensions: &[Extension],
    (clock, log): (Clock, Log),
) -> Result<((Frontend, SocketAddr), String), Fault> {
    directory.write(configuration::FILE, &configuration::text(pbx.address(), extensions))?;
    let frontend = Frontend::start(&directory.file(configuration::FILE), clock, log)?;
    let up = |status: &serde_json::Value| status["pbx"][0] == "lab up";
    frontend.operator().status("the PBX is up", up).await?;
    let server = frontend.tls()?;
    let seen =
        format!("started by the code of `portcullis run`; the PBX answers it\n{}", frontend.listening());
    Ok(((frontend, server), seen))
}

/// A phone connects with its certificate and registers: seen at the phone, the PBX and the admin socket.
pub(crate) async fn register<W: Write>(
    frontend: &Frontend,
    pbx: &Pbx,
    extension: &Extension,
    papers: &Arc<ClientConfig>,
    out: &mut Output<W>,
) -> Result<Phone, Failed> {
    let step = format!("phone {}", extension.number);
    let work = async {
        let Extension { number, hardware_id, .. } = extension;
        let server = frontend.tls()?;
        let owner =
            Owner { number: number.clone(), domain: DOMAIN.to_owned(), hardware_id: hardware_id.clone() };
        let mut phone = Phone::connect(owner, PHONES, server, Arc::clone(papers)).await?;
        let answer = phone.register(EXPIRES_S).await?;
        if answer.status != 200 {
            return Err(Fault::unlike(format!("REGISTER got {answer}")));
        }
        let granted = answer.expires.as_deref().unwrap_or("?");
        let contact = pbx
            .seen(&format!("a contact of {number}"), |journal| journal.contacts.get(number)?.first().cloned())
            .await?;
        let contact_uri = contact.uri;
        if contact.host != INSIDE.to_string() {
            return Err(Fault::unlike(format!("the PBX would reach {number} at {contact_uri}: not by us")));
        }
        let row = |row: &serde_json::Value| {
            row["extension"] == number.as_str() && row["hardware_id"] == hardware_id.as_str()
        };
        frontend.operator().row("the registration", Request::Registrations, row).await?;
        let seen = format!(
            "registered by mutual {}, known as {hardware_id}, for {granted} s\n\
             the PBX reaches it at {contact_uri}",
            phone.tls_version()
        );
        Ok((phone, seen))
    };
    out.step(&step, work).await
}

/// A phone takes its registration back: seen at the PBX.
pub(crate) async fn leave<W: Write>(pbx: &Pbx, mut phone: Phone, out: &mut Output<W>) -> Result<(), Failed> {
    let number = phone.owner().number.clone();
    let step = format!("phone {number} leaves");
    let work = async {
        let answer = phone.register(0).await?;
        if answer.status != 200 {
            return Err(Fault::unlike(format!("REGISTER got {answer}")));
        }
        let gone = |journal: &Journal| (!journal.contacts.contains_key(&number)).then_some(());
        pbx.seen(&format!("no contact of {number}"), gone).await?;
        Ok(((), "de-registered; the PBX has no contact of it any more".to_owned()))
    };
    out.step(&step, work).await
}
