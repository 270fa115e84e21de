//! The words of the domain: checked names, shares, unit keys, quantities and addresses.
//!
//! Nothing here does I/O or knows another module of the house. Reading order: [`name`], [`share`], [`mod@unit`],
//! [`quantity`], [`address`].

pub mod address;
pub mod name;
pub mod quantity;
pub mod share;
pub mod unit;

pub use address::{BindAddress, EndpointAddress, IpSet};
pub use name::{
    ListenerName, NameError, RouteName, RuleName, SplitName, UpstreamName, VariantName, ZoneName,
};
pub use quantity::{ByteSize, Generation};
pub use share::Share;
pub use unit::{Position, UnitKey};
