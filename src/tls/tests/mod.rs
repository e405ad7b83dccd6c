//! Who gets in, over real sockets and real handshakes: each refusal is a certificate that is wrong in one way.

mod authority;
mod handshakes;
mod limits;
mod reload;
mod succession;
