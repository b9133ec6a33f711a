//! `--nats` and its kin: where searchers and workers meet.

use std::path::PathBuf;

use criadero::cluster::Server;

/// Where searchers and workers meet
#[derive(clap::Args)]
pub struct NatsArgs {
    /// File with a user's JWT and seed, as `nsc generate creds` writes it; NATS_USER and NATS_PASSWORD, or NATS_TOKEN, are read from
    /// the environment alone
    #[arg(long, value_name = "FILE", env = "NATS_CREDS", hide_env_values = true)]
    nats_creds: Option<PathBuf>,
    /// File with the seed of an NKey
    #[arg(long, value_name = "FILE", env = "NATS_NKEY", hide_env_values = true)]
    nats_nkey: Option<PathBuf>,
    /// Certificates of authorities to trust besides the system's, for `tls://`
    #[arg(long, value_name = "FILE", env = "NATS_CA", hide_env_values = true)]
    nats_ca: Option<PathBuf>,
    /// A certificate of one's own
    #[arg(long, value_name = "FILE", env = "NATS_CERT", hide_env_values = true, requires = "nats_key")]
    nats_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", env = "NATS_KEY", hide_env_values = true, requires = "nats_cert")]
    nats_key: Option<PathBuf>,
    /// What names on the server begin with: searchers and workers of one prefix see each other
    #[arg(long, value_name = "WORD", default_value = Server::PREFIX)]
    nats_prefix: String,
}

impl NatsArgs {
    /// The server at an address.
    pub fn server(&self, url: &str) -> Server {
        let of_environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Server {
            url: url.to_string(),
            prefix: self.nats_prefix.clone(),
            user: of_environment("NATS_USER").zip(of_environment("NATS_PASSWORD")),
            token: of_environment("NATS_TOKEN"),
            credentials: self.nats_creds.clone(),
            nkey: self.nats_nkey.clone(),
            authorities: self.nats_ca.clone(),
            certificate: self.nats_cert.clone().zip(self.nats_key.clone()),
        }
    }
}

/// The words of this process's command line as they may be written down: without what is secret in an address.
pub fn command_words() -> Vec<String> {
    without_secrets(std::iter::once("criadero".to_string()).chain(std::env::args().skip(1)))
}

fn without_secrets(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut before = String::new();
    words
        .map(|word| {
            let flag = std::mem::replace(&mut before, word.clone());
            match word.strip_prefix("--nats=") {
                Some(url) => format!("--nats={}", Server::without_secrets(url)),
                None if flag == "--nats" => Server::without_secrets(&word),
                None => word,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_has_no_secrets() {
        let words = |line: &str| without_secrets(line.split(' ').map(String::from)).join(" ");
        assert_eq!(
            words("criadero search s --nats nats://me:pw@host --out r"),
            "criadero search s --nats nats://host --out r"
        );
        assert_eq!(words("criadero search s --nats=tls://token@host:1"), "criadero search s --nats=tls://host:1");
        assert_eq!(words("criadero search a@b --out nats://x@y"), "criadero search a@b --out nats://x@y");
    }
}
