//! The addresses of a server: a page at `/`, `/v1/completions`, `/v1/chat/completions`, `/v1/models`, `/health` and `/metrics`.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::engine::{Engine, Refusal};
use super::openai::{Asked, Choice, Heading, Input, Kind, Prompt, budget, usage};
use super::question::{Picked, Question};
use super::request::{Ending, Event, Request, Written};
use crate::checkpoint::Tokenizer;
use crate::error::{Error, Result};
use crate::prometheus;
use crate::space::Constraint;
use crate::tune::template::Template;

/// What comes before the name of a budget in a header: `x-params: 100M`.
const HEADER: &str = "x-";
/// Prompts of a request at most.
const PROMPTS: usize = 128;

/// Everything that an answer takes.
pub struct Service {
    /// What writes.
    pub engine: Engine,
    /// Of the model.
    pub tokenizer: Arc<Tokenizer>,
    /// What makes a text of a conversation, or why there is nothing.
    pub template: std::result::Result<Template, String>,
    /// Tokens of the model's vocabulary.
    pub vocab: usize,
    /// Tokens of a prompt and what is written behind it, together.
    pub context: usize,
    /// How long a request may take.
    pub timeout: Duration,
    /// What clients must know.
    pub key: Option<String>,
    /// Bytes of a request's body at most.
    pub body_bytes: usize,
    /// What a browser gets.
    pub page: Page,
}

/// A page that is made when it is first asked for.
pub struct Page {
    make: Box<dyn Fn() -> Result<String> + Send + Sync>,
    made: OnceLock<String>,
}

impl Page {
    /// A page that is made so.
    pub fn new(make: impl Fn() -> Result<String> + Send + Sync + 'static) -> Page {
        Page { make: Box::new(make), made: OnceLock::new() }
    }

    fn text(&self) -> Result<&str> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let made = (self.make)()?;
        Ok(self.made.get_or_init(|| made))
    }
}

/// Answers whoever comes, until `stop`; what is under way is written to its end.
///
/// # Errors
/// What the listener fails with.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let of_engine = service.clone();
    let stopped = async move {
        stop.await;
        of_engine.engine.close();
    };
    let is_local = listener.local_addr()?.ip().is_loopback();
    // Pieces of a stream are small, and nobody is to wait for the next one.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router(service, is_local)).with_graceful_shutdown(stopped).await
}

fn router(service: Arc<Service>, is_local: bool) -> Router {
    let guarded = Router::new()
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .layer(from_fn_with_state(service.clone(), only_with_key));
    Router::new()
        .merge(guarded)
        .route("/", get(page))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(|| async { Problem::unknown("no such address; see /v1/models").into_response() })
        .method_not_allowed_fallback(|| async {
            Problem {
                status: StatusCode::METHOD_NOT_ALLOWED,
                message: "another method is expected here".into(),
                retry: false,
            }
        })
        .layer(DefaultBodyLimit::max(service.body_bytes))
        .layer(from_fn_with_state(is_local, only_of_here))
        .with_state(service)
}

/// An answer that is none, as the API has them.
struct Problem {
    status: StatusCode,
    message: String,
    /// Whether the same may do a little later.
    retry: bool,
}

impl Problem {
    fn of(status: StatusCode, message: impl ToString) -> Problem {
        Problem { status, message: message.to_string(), retry: false }
    }

    fn unknown(message: impl ToString) -> Problem {
        Problem::of(StatusCode::NOT_FOUND, message)
    }

    fn as_json(&self) -> Value {
        let kind = match self.status {
            status if status == StatusCode::UNAUTHORIZED => "authentication_error",
            status if status == StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "param": null, "code": null } })
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem::of(StatusCode::BAD_REQUEST, error)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::Full => Problem {
                retry: true,
                ..Problem::of(
                    StatusCode::TOO_MANY_REQUESTS,
                    "as many requests wait as may wait here; try again a little later",
                )
            },
            Refusal::Closing => Problem::of(StatusCode::SERVICE_UNAVAILABLE, "the server is ending"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.as_json())).into_response();
        if self.retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Keeps other sites' pages out: what a browser sends for them says so, and a name of theirs that leads to loopback is not one of ours.
async fn only_of_here(State(is_local): State<bool>, request: HttpRequest, next: Next) -> Response {
    if is_foreign(is_local, request.headers()) {
        let message = "pages of other sites are not answered, nor, on loopback, other names than localhost";
        return Problem::of(StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

/// Whether a request is for another site, or by a name that is none of loopback's where that is what is listened on.
fn is_foreign(is_local: bool, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST);
    let of_host = |origin: &str| host == Some(origin.split_once("://").map_or(origin, |(_, own)| own));
    text(header::ORIGIN).is_some_and(|origin| !of_host(origin))
        || (is_local && host.is_some_and(|host| !is_loopback(host)))
}

/// Whether a host, with or without a port, is this machine by a name that nobody else can give.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Lets in who knows the key, where there is one.
async fn only_with_key(State(service): State<Arc<Service>>, request: HttpRequest, next: Next) -> Response {
    if let Some(key) = &service.key {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        // Hashes are compared in constant time.
        if blake3::hash(given.as_bytes()) != blake3::hash(key.as_bytes()) {
            let message = "another key is expected: `Authorization: Bearer KEY`, with what the server got as --api-key";
            return Problem::of(StatusCode::UNAUTHORIZED, message).into_response();
        }
    }
    next.run(request).await
}

/// What a browser may do with the page: run its own script, and ask this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn page(State(service): State<Arc<Service>>) -> std::result::Result<Response, Problem> {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    let failed = |error: String| Problem::of(StatusCode::INTERNAL_SERVER_ERROR, error);
    let made = tokio::task::spawn_blocking(move || service.page.text().map(str::to_string)).await;
    let text = made.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    Ok((headers, text).into_response())
}

async fn health(State(service): State<Arc<Service>>) -> std::result::Result<Response, Problem> {
    match service.engine.is_there() {
        true => Ok(axum::Json(json!({ "status": "ok" })).into_response()),
        false => Err(Problem::of(StatusCode::SERVICE_UNAVAILABLE, "nobody computes any more")),
    }
}

async fn metrics(State(service): State<Arc<Service>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], service.engine.meter().for_prometheus())
}

async fn models(State(service): State<Arc<Service>>) -> impl IntoResponse {
    axum::Json(json!({ "object": "list", "data": service.models() }))
}

async fn model(State(service): State<Arc<Service>>, Path(id): Path<String>) -> std::result::Result<Response, Problem> {
    let place = service.engine.menu().find(&id, &[]).map_err(Problem::unknown)?;
    Ok(axum::Json(&service.models()[place]).into_response())
}

async fn completions(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: std::result::Result<Bytes, BytesRejection>,
) -> std::result::Result<Response, Problem> {
    service.answer(Kind::Completion, headers, body).await
}

async fn chat(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: std::result::Result<Bytes, BytesRejection>,
) -> std::result::Result<Response, Problem> {
    service.answer(Kind::Chat, headers, body).await
}

impl Service {
    /// All networks as the API lists models, with what is known of them.
    fn models(&self) -> Vec<Value> {
        let menu = self.engine.menu();
        let front = menu.front();
        let points = front.iter().flat_map(|front| [&front.parent].into_iter().chain(&front.points)).map(Some);
        let of = |(served, point): (&super::Served, Option<&crate::run::FrontPoint>)| {
            let mut fields = json!({
                "id": served.id, "object": "model", "created": 0, "owned_by": "criadero", "genome": served.genome,
            });
            if let (Some(point), Some(fields)) = (point, fields.as_object_mut()) {
                let values = point.values.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
                let scores = point.held_out.iter().map(|score| (score.name.clone(), score.value.into())).collect();
                fields.insert("values".into(), Value::Object(values));
                fields.insert("held_out".into(), Value::Object(scores));
            }
            fields
        };
        menu.networks().iter().zip(points.chain(std::iter::repeat(None))).map(of).collect()
    }

    /// Takes a request in, and answers it whole or piece by piece.
    async fn answer(
        self: Arc<Service>,
        kind: Kind,
        headers: HeaderMap,
        body: std::result::Result<Bytes, BytesRejection>,
    ) -> std::result::Result<Response, Problem> {
        let body = body.map_err(|rejection| Problem::of(rejection.status(), rejection.body_text()))?;
        let mut asked = Asked::read(kind, &body)?;
        asked.budget.extend(budget_of(&headers)?);
        let network = self.network(&asked).await?;
        let service = self.clone();
        let (asked, prompts, choices) = tokio::task::spawn_blocking(move || {
            let prompts = service.prompts(&asked.input);
            let choices = asked.guided.as_ref().map(|texts| service.choices(texts)).transpose();
            (asked, prompts, choices)
        })
        .await
        .map_err(|error| Problem::of(StatusCode::INTERNAL_SERVER_ERROR, error))?;
        let (prompts, choices) = (prompts?, choices?);
        self.check_count(prompts.len() * asked.choices)?;
        let read: usize = prompts.iter().map(Vec::len).sum();
        if let Some(choices) = choices {
            return self.choose(kind, network, &asked, choices, prompts).await;
        }
        if self.engine.menu().cascade(network).is_some() {
            let expected = "`guided_choice` beside it: a cascade goes by how sure a network is of one of the choices";
            return Err(Error::invalid("model", format!("`{}`", asked.model), expected).into());
        }
        let (requests, heard) = self.requests(network, &asked, prompts)?;
        self.engine.write(requests)?;
        let heading = heading(kind, self.engine.menu().networks()[network].id.clone());
        if asked.stream {
            let lines = pieces(self, heading, heard, asked.stream_usage.then_some(read));
            return Ok(Sse::new(lines).keep_alive(KeepAlive::default()).into_response());
        }
        let mut choices = Vec::with_capacity(heard.len());
        for events in heard {
            choices.push(whole(events).await?);
        }
        if choices.iter().any(|choice| choice.ending == Some(Ending::Timeout)) {
            return Err(self.too_late());
        }
        Ok(axum::Json(heading.whole(&choices, read, &self.tokenizer)).into_response())
    }

    /// The tokens of texts that stand behind a prompt.
    fn choices(&self, texts: &[String]) -> Result<Vec<Vec<u32>>> {
        let choices = texts.iter().map(|text| self.tokenizer.encode_inside(text)).collect::<Result<Vec<_>>>()?;
        match choices.iter().position(Vec::is_empty) {
            None => Ok(choices),
            Some(place) => {
                Err(Error::invalid("guided_choice", format!("no token in {:?}", texts[place]), "texts with tokens"))
            }
        }
    }

    /// Chooses one of some texts behind each prompt.
    async fn choose(
        &self,
        kind: Kind,
        network: usize,
        asked: &Asked,
        choices: Vec<Vec<u32>>,
        prompts: Vec<Vec<u32>>,
    ) -> std::result::Result<Response, Problem> {
        let texts = asked.guided.as_deref().unwrap_or_default();
        let chars: Arc<[usize]> = texts.iter().map(|text| text.trim_start().chars().count()).collect();
        let choices: Arc<[Vec<u32>]> = choices.into();
        let deadline = Instant::now() + self.timeout;
        let read = prompts.iter().map(Vec::len).sum();
        let (mut questions, mut heard) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let (done, hear) = oneshot::channel();
            let (choices, chars) = (choices.clone(), chars.clone());
            let question = Question { network, prompt: prompt.into(), choices, chars, deadline, done };
            // All choices are computed at once.
            self.check_prompt(&question.prompt, question.tokens() - question.prompt.len())?;
            questions.push(question);
            heard.push(hear);
        }
        self.engine.choose(questions)?;
        let (mut chosen, mut written) = (Vec::new(), 0);
        for hear in heard {
            let failed = |reason| Problem::of(StatusCode::INTERNAL_SERVER_ERROR, reason);
            let Picked { choice, share, network } = match hear.await {
                Ok(picked) => picked.map_err(failed)?,
                Err(_) if Instant::now() > deadline => return Err(self.too_late()),
                Err(_) => return Err(failed("the server has lost it".to_string())),
            };
            written += choices[choice].len();
            chosen.push((texts[choice].as_str(), share, network));
        }
        // Of several prompts each says who answered it.
        let one = chosen.first().map(|(.., network)| network.clone());
        let same = one.filter(|one| chosen.iter().all(|(.., network)| network == one));
        let model = same.unwrap_or_else(|| self.engine.menu().networks()[network].id.clone());
        Ok(axum::Json(heading(kind, model).chosen(&chosen, read, written)).into_response())
    }

    /// Refuses more texts than may ever wait.
    fn check_count(&self, count: usize) -> Result<()> {
        let most = self.engine.most_waiting();
        let expected = format!("{most} at most, as many as may wait here (`criadero serve --queue`)");
        if count > most { Err(Error::invalid("prompts times n", count, expected)) } else { Ok(()) }
    }

    /// Refuses a prompt that has no room with so many tokens behind it, or tokens that there are not.
    fn check_prompt(&self, prompt: &[u32], tokens: usize) -> Result<()> {
        if prompt.is_empty() || tokens == 0 || prompt.len() + tokens > self.context {
            let found = format!("a prompt of {} tokens and {} behind it", prompt.len(), tokens.max(1));
            let expected = format!("1 to {} tokens together", self.context);
            return Err(Error::invalid("prompt and max_tokens", found, expected));
        }
        match prompt.iter().find(|&&token| token as usize >= self.vocab) {
            None => Ok(()),
            Some(token) => {
                let expected = format!("less than the vocabulary's {}", self.vocab);
                Err(Error::invalid("token of the prompt", token, expected))
            }
        }
    }

    /// What is said of a request whose time was up.
    fn too_late(&self) -> Problem {
        Problem::of(StatusCode::GATEWAY_TIMEOUT, format!("it was not written within {} s", self.timeout.as_secs()))
    }

    /// The network that is asked for; where a budget is about speeds that nobody measured, they are measured first.
    async fn network(&self, asked: &Asked) -> std::result::Result<usize, Problem> {
        let menu = self.engine.menu();
        if menu.lacks(&asked.model, &asked.budget) {
            let measured = self.engine.measure(&asked.model, &asked.budget)?.await;
            let failed =
                |reason| Problem::of(StatusCode::BAD_REQUEST, format!("speeds could not be measured: {reason}"));
            measured.map_err(|_| failed("the server is ending".to_string()))?.map_err(failed)?;
        }
        menu.find(&asked.model, &asked.budget).map_err(Problem::unknown)
    }

    /// The tokens of what is gone on from.
    fn prompts(&self, input: &Input) -> Result<Vec<Vec<u32>>> {
        let encoded = |text: &String| self.tokenizer.encode(text);
        let prompts = match input {
            Input::Prompt(Prompt::Text(text)) => vec![encoded(text)?],
            Input::Prompt(Prompt::Texts(texts)) => texts.iter().map(encoded).collect::<Result<_>>()?,
            Input::Prompt(Prompt::Tokens(tokens)) => vec![tokens.clone()],
            Input::Prompt(Prompt::ManyTokens(prompts)) => prompts.clone(),
            Input::Messages(messages) => {
                let wrong =
                    |reason: &String| Error::invalid("messages", reason, "what the model's chat template takes");
                let template = self.template.as_ref().map_err(wrong)?;
                let text = template.render(messages, &Value::Null, true).map_err(|reason| wrong(&reason))?;
                vec![encoded(&text)?]
            }
        };
        if prompts.is_empty() || prompts.len() > PROMPTS {
            return Err(Error::invalid("prompt", format!("{} of them", prompts.len()), "1 to 128 prompts"));
        }
        Ok(prompts)
    }

    /// The requests of all prompts and choices, and where their events come.
    fn requests(
        &self,
        network: usize,
        asked: &Asked,
        prompts: Vec<Vec<u32>>,
    ) -> Result<(Vec<Request>, Vec<UnboundedReceiver<Event>>)> {
        let seed = asked.seed.unwrap_or_else(rand::random);
        let deadline = Instant::now() + self.timeout;
        let (mut requests, mut heard) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let left = self.context.saturating_sub(prompt.len());
            let tokens = asked.tokens.unwrap_or(left);
            self.check_prompt(&prompt, tokens)?;
            let prompt: Arc<[u32]> = prompt.into();
            for _ in 0..asked.choices {
                let (events, hear) = unbounded_channel();
                heard.push(hear);
                requests.push(Request {
                    network,
                    prompt: prompt.clone(),
                    tokens,
                    sampling: asked.sampling,
                    seed: seed.wrapping_add(requests.len() as u64),
                    stops: asked.stops.clone(),
                    ignore_eos: asked.ignore_eos,
                    likely: asked.likely,
                    deadline,
                    events,
                });
            }
        }
        Ok((requests, heard))
    }
}

/// The limits that headers name.
fn budget_of(headers: &HeaderMap) -> Result<Vec<Constraint>> {
    let mut limits = Vec::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(HEADER) else { continue };
        let text = value.to_str().unwrap_or_default();
        limits.extend(budget(&name.replace('-', "_"), text)?);
    }
    Ok(limits)
}

/// What the answer of a network begins with.
fn heading(kind: Kind, model: String) -> Heading {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Heading { kind, id: new_id(kind), created, model }
}

/// Another one each time: the time of the start and a number.
fn new_id(kind: Kind) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
    format!("{prefix}-{:08x}{:08x}", rand::random::<u32>(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for a choice's end.
async fn whole(mut events: UnboundedReceiver<Event>) -> std::result::Result<Choice, Problem> {
    let mut choice = Choice::default();
    loop {
        match events.recv().await {
            Some(Event::Written(Written { text, tokens })) => {
                choice.written.text += &text;
                choice.written.tokens.extend(tokens);
            }
            Some(Event::End { why, tokens }) => {
                (choice.ending, choice.tokens) = (Some(why), tokens);
                return Ok(choice);
            }
            Some(Event::Failed(reason)) => return Err(Problem::of(StatusCode::INTERNAL_SERVER_ERROR, reason)),
            None => return Err(Problem::of(StatusCode::INTERNAL_SERVER_ERROR, "the server has lost it")),
        }
    }
}

/// Everything that is said of some choices as it comes, each line a JSON object, and `[DONE]`. With the prompts' tokens, usage at the end.
fn pieces(
    service: Arc<Service>,
    heading: Heading,
    heard: Vec<UnboundedReceiver<Event>>,
    prompt: Option<usize>,
) -> impl Stream<Item = std::result::Result<Line, Infallible>> {
    let line = |value: Value| Ok(Line::default().data(value.to_string()));
    let openings: Vec<_> = match heading.kind {
        Kind::Chat => (0..heard.len()).map(|index| line(heading.opening(index))).collect(),
        Kind::Completion => Vec::new(),
    };
    let of_choice = |(index, events): (usize, UnboundedReceiver<Event>)| {
        Box::pin(stream::unfold(Some(events), move |events| async move {
            let mut events = events?;
            match events.recv().await {
                Some(event @ Event::Written(_)) => Some(((index, event), Some(events))),
                Some(last) => Some(((index, last), None)),
                None => Some(((index, Event::Failed("the server has lost it".into())), None)),
            }
        }))
    };
    let events = stream::select_all(heard.into_iter().enumerate().map(of_choice));
    let mut characters = std::collections::HashMap::<usize, usize>::new();
    let closing = heading.clone();
    let written = Arc::new(AtomicUsize::new(0));
    let total = written.clone();
    let lines = events.map(move |(index, event)| {
        let value = match event {
            Event::Written(piece) => {
                let before = characters.entry(index).or_default();
                let value = heading.piece(index, &piece, *before, None, &service.tokenizer);
                *before += piece.text.chars().count();
                value
            }
            Event::End { why: Ending::Timeout, .. } => service.too_late().as_json(),
            Event::End { why, tokens } => {
                written.fetch_add(tokens, Ordering::Relaxed);
                heading.piece(index, &Written::default(), 0, Some(why), &service.tokenizer)
            }
            Event::Failed(reason) => Problem::of(StatusCode::INTERNAL_SERVER_ERROR, reason).as_json(),
        };
        line(value)
    });
    let end = stream::once(async move {
        let usage = prompt.map(|prompt| line(closing.closing(usage(prompt, total.load(Ordering::Relaxed)))));
        stream::iter(usage.into_iter().chain([Ok(Line::default().data("[DONE]"))]))
    })
    .flatten();
    stream::iter(openings).chain(lines).chain(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_few_names() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:80", "127.0.0.2", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "10.0.0.1:80", "", "?", "127.0.0.1.evil.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
