//! The Open Inference Protocol over gRPC, on the same port as everything else.
//!
//! The messages are written here as `prost` derives them, with the numbers of the protocol's own
//! `grpc_predict_v2.proto` and, for the repository, Triton's `grpc_service.proto`: so no compiler of
//! protocol buffers is needed to build. `tonic` frames and limits the calls; hyper speaks HTTP/2.

mod messages;

use std::future::Future;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{Request, Response};
use axum::routing::post;
use prost::Message;
use serde_json::Value as Json;
use tonic::Status;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use self::messages::*;
pub use self::messages::{InferRequest, InferTensorContents, Tensor};
use super::access::Caller;
use super::guard::{code_of, recorded};
use super::protocol::{self, Failure, SCORE};
use super::routes::Shared;
use super::scorer::{Answer, Question};
use super::tensor::{self, RawTensor};

/// The answer to a call.
type Said<R> = Result<tonic::Response<R>, Status>;

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        Status::new(code_of(failure.status), failure.message)
    }
}

/// Adds the calls to the routes.
pub(super) fn routes(router: Router<Shared>) -> Router<Shared> {
    let path = |method: &str| format!("/inference.GRPCInferenceService/{method}");
    router
        .route(&path("ServerLive"), post(live))
        .route(&path("ServerReady"), post(ready))
        .route(&path("ModelReady"), post(model_ready))
        .route(&path("ServerMetadata"), post(server))
        .route(&path("ModelMetadata"), post(model))
        .route(&path("ModelInfer"), post(infer))
        .route(&path("RepositoryIndex"), post(index))
        .route(&path("RepositoryModelLoad"), post(load))
        .route(&path("RepositoryModelUnload"), post(unload))
}

/// A call whose request and answer are one message each.
struct Unary<F>(F);

impl<F, M, R, Fut> UnaryService<M> for Unary<F>
where
    F: FnMut(M) -> Fut,
    Fut: Future<Output = Said<R>>,
{
    type Response = R;
    type Future = Fut;

    fn call(&mut self, request: tonic::Request<M>) -> Fut {
        (self.0)(request.into_inner())
    }
}

async fn unary<M, R, F, Fut>(shared: &Shared, request: Request<Body>, call: F) -> Response<Body>
where
    M: Message + Default + Send + 'static,
    R: Message + Send + 'static,
    F: FnMut(M) -> Fut,
    Fut: Future<Output = Said<R>>,
{
    let codec = ProstCodec::<R, M>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(shared.body_bytes);
    grpc.unary(Unary(call), request).await.map(Body::new)
}

fn say<R>(message: R) -> Said<R> {
    Ok(tonic::Response::new(message))
}

async fn live(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    unary(&shared, request, |_: Nothing| async { say(Truth { yes: true }) }).await
}

async fn ready(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    let ready = shared.scorer.ready();
    unary(&shared, request, |_: Nothing| async move { say(Truth { yes: ready }) }).await
}

async fn model_ready(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    let shared = &shared;
    let call = |asked: ModelName| async move {
        let asked = shared.find(&asked.name, Some(&asked.version))?;
        say(Truth { yes: shared.can_score(&asked) })
    };
    unary(shared, request, call).await
}

async fn server(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    let call = |_: Nothing| async {
        say(ServerMetadata {
            name: protocol::NAME.to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            extensions: protocol::EXTENSIONS.map(str::to_string).to_vec(),
        })
    };
    unary(&shared, request, call).await
}

async fn model(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    let shared = &shared;
    let call = |asked: ModelName| async move {
        let asked = shared.find(&asked.name, Some(&asked.version))?;
        let info = shared.scorer.metadata().into_iter().find(|info| info.name == asked.model);
        let info = info.ok_or_else(|| Status::not_found("the model is gone"))?;
        let tensor = |(name, datatype): (String, &str)| TensorMetadata {
            name,
            datatype: datatype.to_string(),
            shape: vec![-1],
        };
        let inputs = protocol::inputs(&info, &shared.scorer.store());
        say(ModelMetadata {
            platform: format!("tidemill_{}", info.kind),
            name: info.name,
            versions: info.versions.iter().map(u64::to_string).collect(),
            inputs: inputs.into_iter().map(tensor).collect(),
            outputs: vec![tensor((SCORE.to_string(), "FP64"))],
        })
    };
    unary(shared, request, call).await
}

async fn index(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    let shared = &shared;
    let call = |asked: IndexRequest| async move {
        let all = protocol::index(&shared.scorer.metadata(), |name| shared.loaded(name));
        let all = all.into_iter().map(|[name, version, state, reason]| ModelIndex {
            name,
            version,
            state,
            reason,
        });
        say(Index { models: all.filter(|m| !asked.ready || m.state == "READY").collect() })
    };
    unary(shared, request, call).await
}

async fn set(
    shared: &Shared,
    caller: &Caller,
    request: Request<Body>,
    load: bool,
) -> Response<Body> {
    let call = |asked: LoadRequest| async move {
        shared.find(&asked.model_name, None)?;
        let what = if load { "load" } else { "unload" };
        recorded(shared, caller, format!("{what} model {}", asked.model_name))?;
        shared.load(&asked.model_name, load);
        say(Nothing {})
    };
    unary(shared, request, call).await
}

async fn load(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Response<Body> {
    set(&shared, &caller, request, true).await
}

async fn unload(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Response<Body> {
    set(&shared, &caller, request, false).await
}

async fn infer(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    let shared = &shared;
    let call = |request: InferRequest| async move {
        let asked = shared.find(&request.model_name, Some(&request.model_version))?;
        if let Some(other) = request.outputs.iter().find(|output| output.name != SCORE) {
            let why = format!("there is no output `{}`; there is: {SCORE}", other.name);
            return Err(Status::invalid_argument(why));
        }
        let question = question(&request)?;
        // As it was asked: raw bytes for raw bytes.
        let raw = !request.raw_input_contents.is_empty();
        let answer = shared.score(asked, question).await?;
        say(answered(request, answer, raw))
    };
    unary(shared, request, call).await
}

/// Reads the tensors of a request.
///
/// # Errors
/// Tensors that do not fit together, of types that no feature has, or with bytes too few or too many.
pub fn question(request: &InferRequest) -> Result<Question, Failure> {
    let raw = &request.raw_input_contents;
    if !raw.is_empty() && raw.len() != request.inputs.len() {
        let (given, inputs) = (raw.len(), request.inputs.len());
        return Err(Failure::invalid(format!(
            "{given} raw contents were given for {inputs} inputs"
        )));
    }
    let mut tensors = Vec::with_capacity(request.inputs.len());
    for (i, input) in request.inputs.iter().enumerate() {
        let shape = input.shape.iter().map(|n| u64::try_from(*n).unwrap_or(u64::MAX));
        let tensor =
            RawTensor { name: &input.name, shape: shape.collect(), datatype: &input.datatype };
        let values = match (raw.get(i), &input.contents) {
            (Some(bytes), _) => tensor.read_bytes(bytes)?,
            (None, Some(contents)) => tensor.read_contents(contents)?,
            (None, None) => tensor.read_contents(&InferTensorContents::default())?,
        };
        tensors.push((tensor, values));
    }
    let as_of = request.parameters.get("as_of").and_then(|said| said.choice.clone());
    let as_of = as_of.map(|said| match said {
        parameter::Choice::Text(text) => Json::String(text),
        parameter::Choice::Int(at) => at.into(),
        parameter::Choice::Bool(_) | parameter::Choice::Float(_) => Json::Bool(false),
    });
    Ok(Question { as_of: protocol::moment(as_of.as_ref())?, ..tensor::gather(tensors)? })
}

fn answered(request: InferRequest, answer: Answer, raw: bool) -> InferResponse {
    let said = protocol::parameters(&answer);
    let parameters = said.as_object().into_iter().flatten().filter_map(|(name, value)| {
        let choice = match value {
            Json::String(text) => parameter::Choice::Text(text.clone()),
            Json::Number(n) if n.is_f64() => parameter::Choice::Float(n.as_f64()?),
            Json::Number(n) => parameter::Choice::Int(n.as_i64()?),
            _ => return None,
        };
        Some((name.clone(), Parameter { choice: Some(choice) }))
    });
    let parameters = parameters.collect();
    let shape = vec![answer.scores.len() as i64];
    let bytes = || answer.scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    let contents = InferTensorContents {
        fp64_contents: if raw { Vec::new() } else { answer.scores.clone() },
        ..InferTensorContents::default()
    };
    InferResponse {
        model_name: request.model_name,
        model_version: answer.version.to_string(),
        id: request.id,
        parameters,
        raw_output_contents: if raw { vec![bytes()] } else { Vec::new() },
        outputs: vec![Tensor {
            name: SCORE.to_string(),
            datatype: "FP64".to_string(),
            shape,
            contents: (!raw).then_some(contents),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request by entity with a parameter `as_of`.
    fn asked(said: parameter::Choice) -> Result<Question, Failure> {
        let contents =
            InferTensorContents { bytes_contents: vec![b"c1".to_vec()], ..Default::default() };
        let tensor = Tensor {
            name: "card".to_string(),
            datatype: "BYTES".to_string(),
            shape: vec![1],
            contents: Some(contents),
        };
        let said = Parameter { choice: Some(said) };
        question(&InferRequest {
            inputs: vec![tensor],
            parameters: [("as_of".to_string(), said)].into(),
            ..Default::default()
        })
    }

    #[test]
    fn a_request_may_name_its_moment() {
        let at = |said| asked(said).map(|question| question.as_of);
        let text = |text: &str| parameter::Choice::Text(text.to_string());
        assert_eq!(at(text("1970-01-01T00:00:01Z")), Ok(Some(1_000_000)));
        assert_eq!(at(parameter::Choice::Int(7)), Ok(Some(7)));
        for wrong in [text("soon"), parameter::Choice::Bool(true), parameter::Choice::Float(1.0)] {
            assert!(at(wrong).is_err_and(|why| why.message.contains("is a time")));
        }
    }
}
