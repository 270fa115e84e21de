//! What an upgrade came to, for whoever has asked for it: `weir upgrade` waits at an address that is made of the
//! process's id, and hears what the process says there. A process that nobody waits for says it to nobody.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};
use serde::{Deserialize, Serialize};

/// The longest message.
const LONGEST: usize = 16 * 1024;

/// What an upgrade came to, and that there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is tried; what comes of it is told next.
    Begun,
    /// It is not tried: another one is under way.
    Refused,
    /// Another process serves; the one asked finishes what is in flight.
    Finished {
        /// The id of the new process.
        pid: u32,
    },
    /// The process goes on as before.
    Failed {
        /// Why, for a person.
        reason: String,
    },
}

impl Outcome {
    /// Tells whoever waits for the process `pid`, which is the caller.
    pub fn tell(&self, pid: u32) {
        let told = serde_json::to_vec(self).map_err(io::Error::from).and_then(|text| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.send_to_addr(&text, &address(pid)?)
        });
        // Mostly nobody waits.
        drop(told);
    }
}

/// Hears the outcome of an upgrade.
#[derive(Debug)]
pub struct Ear {
    socket: UnixDatagram,
    pid: u32,
}

impl Ear {
    /// Listens for what process `pid` says of an upgrade.
    ///
    /// # Errors
    /// `AddrInUse` where another one waits for the same; else what the system says.
    pub fn for_process(pid: u32) -> io::Result<Self> {
        let socket = UnixDatagram::bind_addr(&address(pid)?)?;
        set_socket_passcred(&socket, true)?;
        Ok(Self { socket, pid })
    }

    /// What the process itself tells next; `None` where it says nothing for `limit`.
    ///
    /// # Errors
    /// What the system says.
    pub fn hear(&self, limit: Duration) -> io::Result<Option<Outcome>> {
        self.socket.set_read_timeout(Some(limit))?;
        let mut text = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut text)];
        let received = match rustix::net::recvmsg(&self.socket, into, &mut control, RecvFlags::empty()) {
            Ok(received) => received,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Anybody on this machine may say something here; the kernel says who it was.
        let is_its = control.drain().any(|message| match message {
            RecvAncillaryMessage::ScmCredentials(sender) => {
                u32::try_from(sender.pid.as_raw_nonzero().get()) == Ok(self.pid)
            }
            _ => false,
        });
        let text =
            text.get(..received.bytes).filter(|_| is_its && !received.flags.contains(ReturnFlags::TRUNC));
        Ok(text.and_then(|text| serde_json::from_slice(text).ok()))
    }
}

fn address(pid: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("weir-upgrade-{pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_of_the_process_itself_is_heard_and_no_other() {
        let ours = std::process::id();
        let ear = Ear::for_process(ours).unwrap();
        assert_eq!(Ear::for_process(ours).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(ear.hear(Duration::from_millis(1)).unwrap(), None, "nothing was said");
        let outcome = Outcome::Failed { reason: "no".to_owned() };
        outcome.tell(ours);
        assert_eq!(ear.hear(Duration::from_secs(20)).unwrap(), Some(outcome.clone()));
        // One who waits for the parent hears us say something in its place.
        let other = std::os::unix::process::parent_id();
        let ear = Ear::for_process(other).unwrap();
        outcome.tell(other);
        assert_eq!(ear.hear(Duration::from_secs(20)).unwrap(), None);
    }
}
