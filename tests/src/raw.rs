//! gRPC calls whose bytes the caller makes: what no generated client would send.

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};

/// The five bytes before a message, and the message.
///
/// # Panics
/// When it has more than 4 GiB.
#[must_use]
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("a message of less than 4 GiB"));
    framed.put_slice(message);
    framed.freeze()
}

/// Posts these bytes to a method, and reads the answer to its end.
///
/// # Errors
/// When the answer is not gRPC.
pub async fn post(channel: &Channel, path: &str, bytes: Bytes) -> Result<Status> {
    post_body(channel, path, &[], Body::new(Full::new(bytes))).await
}

/// The same, with more headers and any body.
///
/// # Errors
/// When the answer is not gRPC.
pub async fn post_body(
    channel: &Channel,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Body,
) -> Result<Status> {
    let mut request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut channel = channel.clone();
    let response = channel.ready().await?.call(request.body(body)?).await?;
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Ok(status);
    }
    let collected = response.into_body().collect().await?;
    let trailers = collected.trailers().context("an answer without trailers")?;
    Status::from_header_map(trailers).context("trailers without a status")
}
