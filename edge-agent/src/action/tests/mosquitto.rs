//! A real broker.

use std::{
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions, mqttbytes::QoS};

use super::*;

/// Mosquitto on a free port; ends with the test.
pub(crate) struct Mosquitto {
    child: Mutex<Child>,
    pub(crate) address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    pub(crate) async fn start() -> Option<Self> {
        if !std::path::Path::new("/usr/sbin/mosquitto").exists() {
            eprintln!("mosquitto is not installed; tests/run installs it");
            return None;
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
        let dir = tempfile::tempdir().expect("a folder");
        // Everything else is refused.
        let acl = "topic readwrite open/#\n";
        std::fs::write(dir.path().join("acl"), acl).expect("written");
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nacl_file {}\n",
            free.port(),
            dir.path().join("acl").display()
        );
        std::fs::write(dir.path().join("mosquitto.conf"), config).expect("written");
        let broker = Self { child: Mutex::new(Self::spawn(dir.path())), address: free, dir };
        broker.listening().await;
        Some(broker)
    }

    fn spawn(dir: &std::path::Path) -> Child {
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(dir.join("mosquitto.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("mosquitto starts")
    }

    async fn listening(&self) {
        let connected = async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), connected).await.expect("mosquitto listens");
    }

    pub(super) fn kill(&self) {
        let mut child = self.child.lock().expect("free");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    pub(super) async fn restart(&self) {
        *self.child.lock().expect("free") = Self::spawn(self.dir.path());
        self.listening().await;
    }

    /// The payload, and the key in its user properties, of the next message on the topic.
    pub(super) async fn subscribe(&self, topic: &str) -> tokio::sync::mpsc::Receiver<(Value, Option<String>)> {
        let options = MqttOptions::new(format!("in-{topic}"), self.address.ip().to_string(), self.address.port());
        let (client, mut events) = AsyncClient::new(options, 4);
        client.subscribe(topic, QoS::AtLeastOnce).await.expect("asked");
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut ready = Some(ready);
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Incoming::SubAck(_)) => drop(ready.take().map(|ready| ready.send(()))),
                    Event::Incoming(Incoming::Publish(publish)) => {
                        let properties = publish.properties.map(|properties| properties.user_properties);
                        let key =
                            properties.and_then(|p| p.into_iter().find(|(name, _)| name == KEY)).map(|(_, key)| key);
                        let payload = serde_json::from_slice(&publish.payload).expect("JSON");
                        drop(sender.send((payload, key)).await);
                    }
                    _ => {}
                }
            }
            drop(client);
        });
        is_ready.await.expect("subscribed");
        receiver
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}
