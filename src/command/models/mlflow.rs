//! Versions to an MLflow server, and from it.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use tidemill_connectors::client::mlflow::MlflowClient;
use tidemill_types::Error;

use super::order::{self, Options};
use super::{Failure, Models, Said};
use crate::models::history::folders;
use crate::models::registry::sha256;

/// Which server, and under which name.
#[derive(clap::Args, Debug)]
pub struct Server {
    /// The server; without it, MLFLOW_TRACKING_URI. A token is taken from MLFLOW_TRACKING_TOKEN.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The name of the registered model; the model's own if it is not given.
    #[arg(long)]
    name: Option<String>,
}

impl Server {
    fn client(&self) -> Result<MlflowClient, Error> {
        let url = self.server.clone().or_else(|| std::env::var("MLFLOW_TRACKING_URI").ok());
        let url = url.ok_or_else(|| {
            Error::user("no MLflow server is named")
                .help("give --server http://HOST:PORT, or set MLFLOW_TRACKING_URI")
        })?;
        MlflowClient::new(&url, std::env::var("MLFLOW_TRACKING_TOKEN").ok())
    }
}

/// Registers every version that is not there yet, and sets every alias.
pub(super) fn push(folder: &Path, model: &str, server: &Server) -> Result<Said, Failure> {
    let models = Models::open(folder)?;
    let client = server.client()?;
    let name = server.name.as_deref().unwrap_or(model);
    let known = client.versions(name)?.len();
    let mut numbers = Vec::new();
    for version in models.registry.list(model)? {
        let artifact = models.registry.artifact(model, &version.artifact)?;
        let parameters: Vec<(String, String)> =
            match &models.histories.get(model, version.version).parameters {
                Json::Object(all) => all.iter().map(|(k, v)| (k.clone(), v.to_string())).collect(),
                _ => Vec::new(),
            };
        let number = client.register(name, &version, &artifact, &parameters)?;
        numbers.push((version.version, number));
    }
    if numbers.is_empty() {
        let why = format!("model {model} has no version in {}", folder.display());
        return Err(Error::user(why).help("`tidemill models list` shows what is there").into());
    }
    let mut aliases = Vec::new();
    for (alias, version) in models.aliases(model)? {
        if let Some((_, number)) = numbers.iter().find(|(ours, _)| *ours == version) {
            client.set_alias(name, &alias, number)?;
            aliases.push(alias);
        }
    }
    let new = client.versions(name)?.len().saturating_sub(known);
    let text = format!(
        "{} versions of {name} are on the server, {new} of them new; aliases: {}\n",
        numbers.len(),
        if aliases.is_empty() { "none".to_string() } else { aliases.join(", ") }
    );
    let json = json!({ "name": name, "versions": numbers.len(), "new": new, "aliases": aliases });
    Ok(Said { text, json })
}

/// Fetches what an alias on the server stands for into the registry, and may put it in charge.
pub(super) fn pull(
    options: &Options,
    alias: &str,
    promote: bool,
    server: &Server,
) -> Result<Said, Failure> {
    let (folder, model) = options.of();
    let client = server.client()?;
    let name = server.name.as_deref().unwrap_or(model);
    let found = client.alias(name, alias)?.ok_or_else(|| {
        Error::user(format!("{name} has no alias `{alias}` on the server"))
            .help("set one there, or name another with --alias")
    })?;
    let (mut manifest, artifact) = client.load(&found)?;
    if sha256(&artifact) != manifest.artifact {
        let why = format!("the artifact of version {} on the server was changed", found.number);
        return Err(Error::external(why).help("push the version again from its run").into());
    }
    manifest.model = model.to_string();
    let models: PathBuf = match folders(folder) {
        Ok((_, models)) => models,
        Err(_) => folder.join("models"),
    };
    let registry = crate::models::Registry::open(models)?;
    registry.put(model, &artifact)?;
    registry.register(&manifest)?;
    let mut text = format!("version {} of {model} is in {}\n", manifest.version, folder.display());
    let mut json = json!({ "model": model, "version": manifest.version, "alias": alias });
    if promote {
        let said = order::promote(options, &manifest.version.to_string())?;
        text += &said.text;
        json["order"] = said.json;
    }
    Ok(Said { text, json })
}
