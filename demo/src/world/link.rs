//! An uplink that can be cut: a TCP proxy on the loopback that carries bytes while it is up and nothing while it is down.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A request line and headers of a `CONNECT` are shorter than this.
const CONNECT_LEN_MAX: usize = 4_096;

/// Where a link leads.
#[derive(Debug, Clone)]
pub enum Way {
    /// Nowhere yet.
    Closed,
    To(SocketAddr),
    /// Wherever the caller asks with HTTP's `CONNECT`, as a web proxy does.
    Asked,
}

/// A link. Cutting it closes what is open and lets nothing new through.
#[derive(Clone)]
pub struct Link {
    address: SocketAddr,
    up: Arc<watch::Sender<bool>>,
    way: Arc<watch::Sender<Way>>,
}

impl Link {
    /// Opens a link on a free port.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn open(way: Way) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let link = Self {
            address: listener.local_addr()?,
            up: Arc::new(watch::Sender::new(true)),
            way: Arc::new(watch::Sender::new(way)),
        };
        let served = link.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (up, way) = (served.up.subscribe(), served.way.borrow().clone());
                // A connection that breaks is what a link is there to show.
                tokio::spawn(async move { drop(carry(stream, up, way).await) });
            }
        });
        Ok(link)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn lead(&self, way: Way) {
        self.way.send_replace(way);
    }

    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    pub fn mend(&self) {
        self.up.send_replace(true);
    }
}

async fn carry(mut near: TcpStream, mut up: watch::Receiver<bool>, way: Way) -> io::Result<()> {
    if !*up.borrow_and_update() {
        return Ok(());
    }
    let carried = async {
        let mut far = match way {
            Way::Closed => return Ok(()),
            Way::To(address) => TcpStream::connect(address).await?,
            Way::Asked => connect_as_asked(&mut near).await?,
        };
        tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop)
    };
    tokio::select! {
        ended = carried => ended,
        _ = up.wait_for(|up| !*up) => Ok(()),
    }
}

/// Reads `CONNECT host:port` and answers that the way is free (RFC 9110, 9.3.6).
async fn connect_as_asked(near: &mut TcpStream) -> io::Result<TcpStream> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == CONNECT_LEN_MAX {
            return Err(io::Error::other("the request is too long"));
        }
        head.push(near.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let asked = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let far = TcpStream::connect(asked.ok_or_else(|| io::Error::other("expected CONNECT"))?).await?;
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    Ok(far)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    drop(tokio::io::copy(&mut read, &mut write).await);
                });
            }
        });
        address
    }

    async fn answers(stream: &mut TcpStream) -> bool {
        stream.write_all(b"x").await.is_ok() && stream.read_u8().await.is_ok()
    }

    #[tokio::test]
    async fn a_cut_link_drops_what_is_open_and_takes_nothing_new_until_it_is_mended() {
        let link = Link::open(Way::To(echo().await)).await.unwrap();
        let mut open = TcpStream::connect(link.address()).await.unwrap();
        assert!(answers(&mut open).await);
        link.cut();
        assert!(!answers(&mut open).await);
        let mut new = TcpStream::connect(link.address()).await.unwrap();
        assert!(!answers(&mut new).await);
        link.mend();
        let mut again = TcpStream::connect(link.address()).await.unwrap();
        assert!(answers(&mut again).await);
    }

    #[tokio::test]
    async fn a_link_that_is_asked_leads_where_the_caller_says() {
        let link = Link::open(Way::Asked).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        let asked = format!("CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\n", echo().await);
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut answer = [0; 19];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n\r\n");
        assert!(answers(&mut stream).await);
    }
}
