//! The talk between a process and the one that it starts to replace it, over a socket that keeps messages apart and
//! carries files. The new process finds it at its standard input.
//!
//! First come the places where the former process listens, then [`Message::AllPlaces`]. The new one answers
//! [`Message::Ready`] or [`Message::Failed`], and to `Ready` comes [`Message::Yours`]. The end of the talk is the end of
//! the other process.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_domain, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::Socket;
use super::handover::{Kind, Place};
use crate::types::BindAddress;

/// The variable that tells a process that it is to replace another; its value is [`VERSION`].
pub const VARIABLE: &str = "WEIR_HANDOVER";

/// The language of this talk. Changed only where an older process would misunderstand.
pub const VERSION: &str = "1";

/// The longest message.
const LONGEST: usize = 64 * 1024;

/// The longest reason that is told, in bytes.
const LONGEST_REASON: usize = 8 * 1024;

/// How many files one message has at most; the kernel takes 253.
const FILES: usize = 128;

/// What is said.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Some sockets of a place, which come along.
    Place(Announced),
    /// There are no more places.
    AllPlaces,
    /// The new process serves.
    Ready,
    /// The new process will not serve.
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// The former process takes no more connections: everything is the new one's.
    Yours,
}

/// What is said of a place.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    kind: Option<Kind>,
    name: String,
    bind: Option<String>,
    address: String,
    owns_file: bool,
}

/// One end of the talk.
#[derive(Debug)]
pub struct Channel<F = OwnedFd>(F);

impl Channel<UnixStream> {
    /// Both ends: ours, which does not wait, and the one for a new process.
    ///
    /// # Errors
    /// What the system says.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        // No stream, for it keeps messages apart; the runtime does not mind, and only waits.
        let ours = std::os::unix::net::UnixStream::from(ours);
        ours.set_nonblocking(true)?;
        Ok((Self(UnixStream::from_std(ours)?), theirs))
    }

    /// Says something once that can be, or hears something once it is said.
    ///
    /// # Errors
    /// As of `attempt`, but for `WouldBlock`.
    pub async fn when<R>(
        &self,
        interest: Interest,
        mut attempt: impl FnMut(&Self) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0.async_io(interest, || attempt(self)).await
    }
}

impl Channel {
    /// The talk at the standard input, which is empty from now on. Each message is waited for at most for `limit`.
    ///
    /// # Errors
    /// `InvalidInput` where the standard input is no such socket; else what the system says.
    pub fn at_stdin(limit: Duration) -> io::Result<Self> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let kind = socket_domain(&stdin).and_then(|domain| Ok((domain, socket_type(&stdin)?)));
        if kind != Ok((AddressFamily::UNIX, SocketType::SEQPACKET)) {
            let message = "the standard input is not the socket of a process to be replaced";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        set_socket_timeout(&stdin, Timeout::Recv, Some(limit))?;
        set_socket_timeout(&stdin, Timeout::Send, Some(limit))?;
        Ok(Self(stdin))
    }
}

impl<F: AsFd> Channel<F> {
    /// Says `message`, with files.
    ///
    /// # Errors
    /// `WouldBlock` where it cannot be said now; else what the system says.
    fn send_with(&self, message: &Message, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many files for one message"));
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Says `message`, which has no sockets.
    ///
    /// # Errors
    /// `WouldBlock` where it cannot be said now; else what the system says.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// Says that it failed, and why.
    ///
    /// # Errors
    /// As of [`Channel::send`].
    pub fn send_failed(&self, reason: &str) -> io::Result<()> {
        let end = reason.floor_char_boundary(LONGEST_REASON);
        self.send(&Message::Failed { reason: reason[..end].to_owned() })
    }

    /// Says the part of `place` that begins with its socket number `from`; which number comes next.
    ///
    /// # Errors
    /// As of [`Channel::send`].
    pub fn send_place(&self, place: &Place, from: usize) -> io::Result<usize> {
        let files: Vec<_> = place.sockets.iter().skip(from).take(FILES).map(AsFd::as_fd).collect();
        let announced = Announced {
            kind: place.kind,
            name: place.name.clone(),
            bind: place.bind.as_ref().map(ToString::to_string),
            address: place.address.to_string(),
            owns_file: place.owns_file,
        };
        self.send_with(&Message::Place(announced), &files)?;
        Ok(from + files.len())
    }

    /// What the other process says; `None` when it is gone.
    ///
    /// # Errors
    /// `WouldBlock` where nothing was said yet, `InvalidData` where it is not understood; else what the system says.
    pub fn receive(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut text = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut text)];
        let mut receive = || rustix::net::recvmsg(&self.0, into, &mut control, RecvFlags::CMSG_CLOEXEC);
        let received = match receive() {
            // It has not read all that we said. What it said itself comes next.
            Err(Errno::CONNRESET) => receive()?,
            received => received?,
        };
        let mut files = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                files.extend(received);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message did not come whole"));
        }
        let message = serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())?;
        Ok(Some((message, files)))
    }

    /// The places that the former process has, up to the last of them.
    ///
    /// # Errors
    /// `UnexpectedEof` where it goes in between, `InvalidData` where it is not understood; else what the system says.
    pub fn receive_places(&self) -> io::Result<Vec<Place>> {
        let mut places: Vec<(Announced, Place)> = Vec::new();
        loop {
            let (message, files) = self.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let announced = match message {
                Message::Place(announced) => announced,
                Message::AllPlaces => return Ok(places.into_iter().map(|(_, place)| place).collect()),
                other => {
                    let message = format!("{other:?} was not to be expected");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            };
            let parse = |text: &str| BindAddress::parse(text).map_err(io::Error::other);
            let address = parse(&announced.address)?;
            let sockets = files.into_iter().map(|file| Socket::inherit(file, &address));
            let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
            if let Some((_, place)) = places.iter_mut().find(|(known, _)| *known == announced) {
                place.sockets.extend(sockets);
            } else {
                let place = Place {
                    kind: announced.kind,
                    name: announced.name.clone(),
                    bind: announced.bind.as_deref().map(parse).transpose()?,
                    address,
                    owns_file: announced.owns_file,
                    sockets,
                };
                places.push((announced, place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::bind::bind;

    fn pair() -> (Channel, Channel) {
        let kind = SocketType::SEQPACKET;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        (Channel(ours), Channel(theirs))
    }

    #[test]
    fn places_arrive_with_all_their_sockets_however_many() {
        for count in [1, 3, FILES, FILES + 1, 3 * FILES] {
            let (former, new) = pair();
            let address = BindAddress::parse("127.0.0.1:0").unwrap();
            let (sockets, bound) = bind(&address, 1).unwrap();
            let sockets: Vec<_> = (0..count).map(|_| sockets[0].try_clone().unwrap()).collect();
            let place = Place {
                kind: Some(Kind::Listener),
                name: "web".to_owned(),
                bind: Some(address),
                address: bound,
                owns_file: true,
                sockets,
            };
            let mut from = 0;
            while from < count {
                from = former.send_place(&place, from).unwrap();
            }
            former.send(&Message::AllPlaces).unwrap();
            let places = new.receive_places().unwrap();
            let [received] = &places[..] else { panic!("{places:?}") };
            assert_eq!(received.sockets.len(), count);
            assert_eq!(
                (received.kind, &received.name, &received.bind, &received.address, received.owns_file),
                (place.kind, &place.name, &place.bind, &place.address, place.owns_file)
            );
        }
    }

    #[test]
    fn end_and_silence_and_nonsense_are_told_apart() {
        let (former, new) = pair();
        assert_eq!(former.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        rustix::net::send(&new.0, b"READY", SendFlags::empty()).unwrap();
        assert!(former.receive().is_err());
        new.send_failed(&"é".repeat(LONGEST)).unwrap();
        let Some((Message::Failed { reason }, _)) = former.receive().unwrap() else { panic!("no reason") };
        assert_eq!(reason.len(), LONGEST_REASON);
        new.send(&Message::Ready).unwrap();
        drop(new);
        assert_eq!(former.receive().unwrap().map(|(message, _)| message), Some(Message::Ready));
        assert!(former.receive().unwrap().is_none());
        let (former, new) = pair();
        former.send(&Message::AllPlaces).unwrap();
        drop(new);
        assert!(former.receive().unwrap().is_none(), "though it has left something unread");
        let (former, new) = pair();
        former.send(&Message::AllPlaces).unwrap();
        new.send_failed("no").unwrap();
        drop(new);
        assert!(
            matches!(former.receive().unwrap(), Some((Message::Failed { .. }, _))),
            "it is heard all the same"
        );
        let (former, new) = pair();
        drop(former);
        assert_eq!(new.receive_places().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
