//! The process that forks one process for each piece of work.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::end::End;
use super::inside::Host;
use super::wire::{END, Socket, write_line};

/// What a new process begins with.
type Enter = fn(UnixStream, Host) -> io::Result<()>;

/// Bytes of a request: the address of what to enter.
const REQUEST_BYTES: usize = size_of::<usize>();
/// Bytes that are kept of what a process wrote before it died.
const WORDS: u64 = 4096;

/// The socket to the keeper.
static KEEPER: OnceLock<OwnedFd> = OnceLock::new();

/// Starts the keeper, before this process has a second thread; with one it does nothing. It ends when this process does.
pub fn keep() {
    let threads = fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count());
    if threads != 1 || KEEPER.get().is_some() {
        return;
    }
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let Ok((ours, theirs)) = pair else { return };
    // SAFETY: there is one thread, so that the new process has all that this one has.
    match unsafe { (libc::getpid(), libc::fork()) } {
        (parent, 0) => {
            drop(ours);
            serve(parent, &theirs)
        }
        (_, child) if child > 0 => {
            let _ = KEEPER.set(ours);
        }
        _ => {}
    }
}

/// Has `enter` called in a new process with `socket`; gives the socket back where nobody can.
pub(super) fn begin(enter: Enter, socket: UnixStream) -> Option<UnixStream> {
    let Some(keeper) = KEEPER.get() else { return Some(socket) };
    let bytes = (enter as usize).to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [std::os::fd::AsFd::as_fd(&socket)];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = sendmsg(keeper, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
    sent.is_err().then_some(socket)
}

/// The keeper: one new process a request, until whoever asks is gone.
fn serve(parent: libc::pid_t, requests: &OwnedFd) -> ! {
    // SAFETY: calls of the system that change this process alone, which has one thread.
    unsafe {
        die_with(parent);
        // A terminal sends these to all processes in front; what to do then is for the one that asks.
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
    // SAFETY: as above; whoever reads the program's output must not wait for this process.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        (0..3).filter(|_| null >= 0).for_each(|stream| _ = libc::dup2(null, stream));
    }
    while let Some((enter, socket)) = next(requests) {
        // SAFETY: as above.
        unsafe {
            let keeper = libc::getpid();
            if libc::fork() == 0 {
                die_with(keeper);
                supervise(enter, socket);
            }
        }
    }
    // SAFETY: ends this process without what the program does at its end.
    unsafe { libc::_exit(0) }
}

/// # Safety
/// Changes this process alone.
unsafe fn die_with(parent: libc::pid_t) {
    // SAFETY: as the caller's.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent {
            libc::_exit(0);
        }
    }
}

/// The next request; none when nobody will ask any more.
fn next(requests: &OwnedFd) -> Option<(Enter, UnixStream)> {
    let mut bytes = [0; REQUEST_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = recvmsg(requests, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    if read.bytes != REQUEST_BYTES {
        return None;
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })?;
    // SAFETY: the address is of a function of this very program, which this process is a fork of: only `begin` sends it.
    let enter = unsafe { std::mem::transmute::<usize, Enter>(usize::from_le_bytes(bytes)) };
    Some((enter, UnixStream::from(descriptor)))
}

/// Forks the process that does the work, waits for it, and says how it ended.
///
/// # Safety
/// In a process of one thread.
unsafe fn supervise(enter: Enter, socket: UnixStream) -> ! {
    // SAFETY: as the caller's; the descriptors of the pipe are new and owned here.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut ends = [0; 2];
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            libc::_exit(1);
        }
        let (mut words, theirs) = (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]));
        let supervisor = libc::getpid();
        match libc::fork() {
            0 => {
                die_with(supervisor);
                libc::dup2(theirs.as_raw_fd(), 2);
                drop((words, theirs));
                libc::_exit(work(enter, socket));
            }
            child => {
                drop(theirs);
                let mut said = Vec::new();
                let _ = (&mut words).take(WORDS).read_to_end(&mut said);
                let _ = io::copy(&mut words, &mut io::sink());
                let mut status = 0;
                while libc::waitpid(child, &mut status, 0) < 0
                    && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
                {}
                let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
                let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
                let end = End { code, signal, words: String::from_utf8_lossy(&said).into_owned() };
                let mut socket = Socket(socket);
                let _ = socket.write_all(b"\n").and_then(|()| write_line(&mut socket, END, &end));
                libc::_exit(0)
            }
        }
    }
}

/// Does the work; the exit status.
fn work(enter: Enter, socket: UnixStream) -> i32 {
    match std::panic::catch_unwind(|| enter(socket, Host::Process)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            eprintln!("{error}");
            1
        }
        Err(_) => 101,
    }
}
