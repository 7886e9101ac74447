//! `call: grpc` against a tonic server.

use std::{convert::Infallible, pin::Pin};

use futures::{Stream, future::BoxFuture};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tonic::{
    Status,
    body::Body,
    codegen::http,
    server::{Grpc, ServerStreamingService, UnaryService},
};
use tonic_prost::ProstCodec;

use super::*;

pub(crate) const PROTO: &str = r#"
syntax = "proto3";
package GreeterApi;
import "common/mood.proto";
import "google/protobuf/timestamp.proto";
service Greeter {
  rpc SayHello (HelloRequest) returns (HelloReply);
  rpc Count (HelloRequest) returns (stream HelloReply);
  rpc Upload (stream HelloRequest) returns (HelloReply);
}
message HelloRequest { string name = 1; Mood mood = 2; google.protobuf.Timestamp at = 3; repeated int64 numbers = 4; }
message HelloReply { string message = 1; int32 count = 2; }
"#;

pub(crate) const MOOD: &str = "syntax = \"proto3\"; package GreeterApi; enum Mood { NEUTRAL = 0; HAPPY = 1; }";

#[derive(Clone, PartialEq, Message)]
struct HelloRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    mood: i32,
    #[prost(int64, repeated, tag = "4")]
    numbers: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct HelloReply {
    #[prost(string, tag = "1")]
    message: String,
    #[prost(int32, tag = "2")]
    count: i32,
}

/// What a generated service would be.
struct Greeter;

impl UnaryService<HelloRequest> for Greeter {
    type Response = HelloReply;
    type Future = BoxFuture<'static, Result<tonic::Response<HelloReply>, Status>>;

    fn call(&mut self, request: tonic::Request<HelloRequest>) -> Self::Future {
        Box::pin(async move {
            let header = |name: &str| {
                request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
            };
            let (key, auth) = (header("idempotency-key"), header("authorization"));
            let HelloRequest { name, mood, numbers } = request.into_inner();
            match name.as_str() {
                "nobody" => Err(Status::not_found("there is nobody: 100%")),
                "closed" => Err(Status::unauthenticated("who are you")),
                _ => {
                    let message = format!("Hello {name} {mood} {numbers:?} {key} {auth}");
                    Ok(tonic::Response::new(HelloReply { message, count: 0 }))
                }
            }
        })
    }
}

impl ServerStreamingService<HelloRequest> for Greeter {
    type Response = HelloReply;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<HelloRequest>) -> Self::Future {
        Box::pin(async move {
            let name = request.into_inner().name;
            let replies = (1..=3).map(move |count| Ok(HelloReply { message: name.clone(), count }));
            Ok(tonic::Response::new(Box::pin(futures::stream::iter(replies)) as Self::ResponseStream))
        })
    }
}

async fn answer(request: http::Request<hyper::body::Incoming>) -> Result<http::Response<Body>, Infallible> {
    let request = request.map(Body::new);
    let mut grpc = Grpc::new(ProstCodec::<HelloReply, HelloRequest>::default());
    Ok(match request.uri().path() {
        "/GreeterApi.Greeter/SayHello" => grpc.unary(Greeter, request).await,
        "/GreeterApi.Greeter/Count" => grpc.server_streaming(Greeter, request).await,
        _ => Status::unimplemented("no such method").into_http(),
    })
}

/// The server's port, and the address of its proto file.
pub(crate) async fn greeter() -> (u16, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    let protos = Router::new()
        .route("/app/greet.proto", get(|| async { PROTO }))
        .route("/app/common/mood.proto", get(|| async { MOOD }));
    (port, format!("{}/app/greet.proto", serve(protos).await))
}

fn ask(proto: &str, port: u16, method: &str, arguments: Value) -> Value {
    let service = json!({"name": "GreeterApi.Greeter", "host": "127.0.0.1", "port": port});
    json!({"proto": {"endpoint": proto}, "service": service, "method": method, "arguments": arguments})
}

async fn grpc(input: Value) -> Done {
    perform(&nowhere(), &call("grpc", input)).await
}

#[tokio::test]
async fn a_method_is_called_with_json_and_gives_json() {
    let (port, proto) = greeter().await;
    let arguments = json!({"name": "Ada", "mood": "HAPPY", "at": "2026-01-01T00:00:00Z", "numbers": ["7", 8]});
    let mut input = ask(&proto, port, "SayHello", arguments);
    input["service"]["authentication"] = json!({"bearer": {"token": "t0ken-1"}});
    let done = grpc(input).await;
    let told = done.told();
    assert!(
        told.iter()
            .any(|told| told.starts_with(&format!("grpc: http://127.0.0.1:{port}/GreeterApi.Greeter/SayHello {{")))
    );
    assert_eq!(done.output(), json!({"message": "Hello Ada 1 [7, 8] run:/do/0/act Bearer t0ken-1", "count": 0}));
    let stream = grpc(ask(&proto, port, "Count", json!({"name": "x"}))).await.output();
    let counts: Vec<_> = stream.as_array().expect("a list").iter().map(|reply| reply["count"].clone()).collect();
    assert_eq!(counts, [1, 2, 3]);
}

#[tokio::test]
async fn a_status_becomes_the_error_that_it_means() {
    let (port, proto) = greeter().await;
    let say = |name: &str| ask(&proto, port, "SayHello", json!({"name": name}));
    for (input, kind, status, expected) in [
        (say("nobody"), kind::COMMUNICATION, 404, "status 5: there is nobody: 100%"),
        (say("closed"), kind::AUTHENTICATION, 401, "who are you"),
        (
            ask(&proto, port, "SayHello", json!({"nam": 1})),
            kind::VALIDATION,
            400,
            "arguments: do not fit GreeterApi.HelloRequest",
        ),
        (
            ask(&proto, port, "Shout", json!({})),
            kind::CONFIGURATION,
            400,
            "has no \"Shout\"; expected one of SayHello, Count",
        ),
        (ask(&proto, port, "Upload", json!({})), kind::CONFIGURATION, 400, "takes a stream"),
        (ask(&proto, 1, "SayHello", json!({})), kind::COMMUNICATION, 500, "127.0.0.1:1: "),
    ] {
        let done = grpc(input).await;
        assert_eq!(
            (done.failure().error.kind.as_str(), done.failure().error.status),
            (kind.0, status),
            "{}",
            done.detail()
        );
        assert!(done.detail().contains(expected), "{}", done.detail());
    }
    let broken = serve(Router::new().route("/x.proto", get(|| async { "syntax = \"proto3\"; message {" }))).await;
    let done = grpc(ask(&format!("{broken}/x.proto"), port, "SayHello", json!({}))).await;
    assert_eq!(done.failure().error.kind, kind::CONFIGURATION.0);
}
