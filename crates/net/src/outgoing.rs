//! Connections that the core asks for: TCP from the inside address to the PBX. RFC 3261 §18.1.1.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use wire::net::{FiveTuple, FlowId, Side, Transport};

use crate::event::NetEvent;
use crate::io_thread::{IoThread, OpenFlow, canonical};
use crate::lanes::Lane;
use crate::stream::{Connection, Stream};

/// Time for the TCP connection to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Opens a flow and carries its bytes to its end, or says that it failed.
pub(crate) async fn open<T: Send + 'static>(io: Rc<IoThread<T>>, order: OpenFlow, inside: Option<IpAddr>) {
    let OpenFlow { flow, transport } = order;
    let connected = match transport {
        Transport::Tcp => timeout(CONNECT_MAX, connect(inside, flow.remote)).await,
        Transport::Udp | Transport::Tls => Ok(Err(io::ErrorKind::Unsupported.into())),
    };
    let Ok(Ok(connection)) = connected else {
        tracing::debug!(to = %flow.remote, %transport, outcome = ?connected, "no connection");
        return fail(&io, flow.id).await;
    };
    let Ok(local) = connection.local_addr() else {
        return fail(&io, flow.id).await;
    };
    let tuple = FiveTuple { transport, local: canonical(local), remote: flow.remote };
    let opened = NetEvent::FlowOpened { flow: flow.id, side: Side::Inside, tuple, device: None };
    Stream::new(io, Connection::Plain(connection), flow, Side::Inside, None).run(opened).await;
}

/// Says that there will be no such flow.
async fn fail<T: Send + 'static>(io: &IoThread<T>, flow: FlowId) {
    io.shared.flows.remove(&flow);
    io.lanes.push(Lane::Registered, NetEvent::FlowFailed { flow }).await;
}

async fn connect(inside: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(inside) = inside.filter(|inside| inside.is_ipv4() == to.is_ipv4()) {
        socket.bind(SocketAddr::new(inside, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(to).await
}
