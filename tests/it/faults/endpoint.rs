//! An endpoint that is a process of its own, so that it can be killed, stopped and started again.

use std::net::{Ipv4Addr, SocketAddr};

use crate::support::process::Process;

/// Answers every request with its name. It is killed when dropped.
pub struct Endpoint {
    /// Where it listens, also after it was killed and started again.
    pub address: SocketAddr,
    name: &'static str,
    process: Option<Process>,
}

impl Endpoint {
    /// One that is called `name`.
    pub fn start(name: &'static str) -> Self {
        Self::start_at(name, 0)
    }

    /// One that is called `name`, at this port of an address of its own; at a free one for 0.
    pub fn start_at(name: &'static str, port: u16) -> Self {
        // An address that nobody else uses: its port is still free when the process is started again.
        let ip = Ipv4Addr::new(127, fastrand::u8(1..255), fastrand::u8(..), fastrand::u8(1..255));
        let mut endpoint = Self { address: (ip, port).into(), name, process: None };
        endpoint.run();
        endpoint
    }

    /// Starts the process, at the same address.
    pub fn run(&mut self) {
        let text = format!(
            "workers: 1\nlisteners: [{{ bind: '{}' }}]\nroutes: [{{ respond: {{ body: '{}' }} }}]\n",
            self.address, self.name
        );
        let process = Process::start(&text);
        self.address = process.address;
        self.process = Some(process);
    }

    /// Kills the process: what it has is closed by the kernel.
    pub fn kill(&mut self) {
        drop(self.process.take().expect("it runs"));
    }

    /// Stops the process: its connections stay, new ones are made by the kernel alone, and nothing is answered.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets a process that was stopped go on.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }
}
