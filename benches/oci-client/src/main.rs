//! Downloads a blob with oci-client: `bench-oci-client REGISTRY/NAME DIGEST sink|PATH [CA]`. Over https if CA is given.

use oci_client::Reference;
use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, digest, target, ca @ ..] = args.as_slice() else {
        return Err("usage: bench-oci-client REGISTRY/NAME DIGEST sink|PATH [CA]".into());
    };
    let mut config = ClientConfig {
        protocol: ClientProtocol::Http,
        ..Default::default()
    };
    if let Some(ca) = ca.first() {
        config.protocol = ClientProtocol::Https;
        config.extra_root_certificates = vec![Certificate {
            encoding: CertificateEncoding::Pem,
            data: std::fs::read(ca)?,
        }];
    }
    let image: Reference = name.parse()?;
    let client = Client::new(config);
    if target == "sink" {
        client
            .pull_blob(&image, digest.as_str(), tokio::io::sink())
            .await?;
    } else {
        let file = tokio::fs::File::create(target).await?;
        client.pull_blob(&image, digest.as_str(), file).await?;
    }
    Ok(())
}
