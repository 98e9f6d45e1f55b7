//! What holds where a key is left out. `configs/portcullis.toml` shows the same values; a test compares.

use std::time::Duration;

use guard::CallRule;

use super::value::{PortRange, StunServer};

/// `[node] name`
pub const NODE_NAME: &str = "portcullis";
/// `[node] data_dir`
pub const DATA_DIR: &str = "/var/lib/portcullis";
/// `[node] admin_socket`
pub const ADMIN_SOCKET: &str = "/run/portcullis/admin.sock";
/// `[node] log`
pub const LOG: &str = "info";

/// `[outside] tls`
pub const OUTSIDE_TLS: u16 = 5061;
/// `[outside] keepalive`: what the border holds to, whatever is written.
pub const KEEPALIVE: Duration = Duration::from_secs(30);

/// `[inside] udp` and `tcp`
pub const INSIDE_PORT: u16 = 5060;

/// `[[pbx]] registrations`
pub const PBX_REGISTRATIONS: CallRule = CallRule { calls: 50, period: Duration::from_secs(1) };
/// `[[pbx]] health_check`
pub const HEALTH_CHECK: Duration = Duration::from_secs(10);
/// `[[pbx]] priority`
pub const PRIORITY: u32 = 1;

/// `[[extension]] frequency`: the name of the rule that holds where none is named.
pub const FREQUENCY: &str = "default";
/// The rules of that name, where the file has no `[[frequency]]` of it.
pub const FREQUENCY_RULES: [CallRule; 2] = [
    CallRule { calls: 5, period: Duration::from_secs(1) },
    CallRule { calls: 60, period: Duration::from_secs(3600) },
];
/// `[[extension]] max_calls`
pub const MAX_CALLS: u32 = 4;

/// `[registration] phone_expires`
pub const PHONE_EXPIRES: Duration = Duration::from_secs(120);
/// `[registration] pbx_expires`
pub const PBX_EXPIRES: Duration = Duration::from_secs(3600);
/// `[registration] grace`
pub const GRACE: Duration = Duration::from_secs(30);
/// `[registration] max_contacts`
pub const MAX_CONTACTS: u32 = 4;

/// `[media] outside_ports`
pub const OUTSIDE_PORTS: PortRange = PortRange { first: 10_000, last: 19_999 };
/// `[media] inside_ports`
pub const INSIDE_PORTS: PortRange = PortRange { first: 20_000, last: 29_999 };
/// `[media] stun_server`
pub const STUN_SERVER: StunServer = StunServer::On { port: 3478 };
/// `[media] silence_timeout`
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// `[block] after`
pub const BLOCK_AFTER: u32 = 5;
/// `[block] within`
pub const BLOCK_WITHIN: Duration = Duration::from_secs(60);
/// `[block] time`
pub const BLOCK_TIME: Duration = Duration::from_secs(600);
/// `[block] max_time`
pub const BLOCK_MAX_TIME: Duration = Duration::from_secs(24 * 3600);
/// `[block] ipv6_prefix`
pub const IPV6_PREFIX: u32 = 64;
