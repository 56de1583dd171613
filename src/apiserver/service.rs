//! From an HTTP request to its answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};

use super::body::Body;
use super::documents::Document;
use super::kind::Scope;
use super::object::{meta, set_meta};
use super::raw::{MANAGERS, NEWEST, OMIT};
use super::registry::Served;
use super::render::Renderer;
use super::request::accept::negotiate;
use super::request::body::{self, LIMIT, media_type};
use super::request::path::{self, ObjectPath, Target};
use super::request::query::{Query, Verb, WriteOptions, unsupported};
use super::schema;
use super::server::Tenant;
use super::status::ApiError;
use super::table::IncludeObject;
use super::txn::Txn;
use super::user::User;
use super::verbs::delete::{DeleteOptions, Deleted};
use super::verbs::list::{ListOptions, Selection};
use super::verbs::patch::Patch;
use super::verbs::pipeline::{self, Ownership};
use super::verbs::watch::WatchOptions;
use super::verbs::{Part, Write, Written, create, delete, evict, list, patch, scale, update, watch};
use super::writer::transact;

/// A tenant as a [`tower::Service`] for `kube::Client`, in the name of one user.
#[derive(Clone, Debug)]
pub struct TenantService {
    tenant: Tenant,
    user: User,
    lean: bool,
}

impl TenantService {
    pub(super) fn new(tenant: Tenant, user: User) -> Self {
        Self { tenant, user, lean: false }
    }

    /// Asks for objects without their managed fields.
    #[must_use]
    pub fn lean(mut self) -> Self {
        self.lean = true;
        self
    }
}

impl<B> tower::Service<Request<B>> for TenantService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (mut head, content) = request.into_parts();
            if this.lean {
                head.headers.insert(OMIT, HeaderValue::from_static(MANAGERS));
            }
            match Limited::new(content, LIMIT).collect().await {
                Ok(content) => {
                    let request = Request::from_parts(head, content.to_bytes());
                    Ok(handle(&this.tenant, &this.user, request).await)
                }
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    Ok(refusal(&ApiError::too_large(LIMIT)))
                }
                Err(error) => Ok(refusal(&ApiError::bad_request(format!("cannot read the body: {error}")))),
            }
        })
    }
}

/// Answers one request in the name of a user.
pub(crate) async fn handle(tenant: &Tenant, user: &User, request: Request<Bytes>) -> Response<Body> {
    if request.body().len() > LIMIT {
        return refusal(&ApiError::too_large(LIMIT));
    }
    answer(tenant, user, &request).await.unwrap_or_else(|error| refusal(&error))
}

async fn answer(tenant: &Tenant, user: &User, request: &Request<Bytes>) -> Result<Response<Body>, ApiError> {
    // Ignored, it would lend the rights of who asks to whom they name.
    if request.headers().keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", "impersonation is not supported by this server"));
    }
    match path::parse(request.uri().path()).ok_or_else(ApiError::no_such_path)? {
        Target::Service(_) => document(tenant, request),
        Target::Objects(path) => {
            let call = Call::new(tenant, user, request, path)?;
            call.answer().await
        }
    }
}

/// Answers with what the server says of itself.
fn document(tenant: &Tenant, request: &Request<Bytes>) -> Result<Response<Body>, ApiError> {
    let header = |name: &HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let documents = &tenant.shared.core.documents;
    let accept = header(&ACCEPT).unwrap_or_default();
    let page = tenant.shared.pages.get(request.uri().path()).filter(|_| request.method() == Method::GET);
    let found = match page {
        Some(page) => {
            let (content_type, text) = page();
            Document { content_type, etag: None, bytes: text.into() }
        }
        None => documents.get(request.uri().path(), accept, &tenant.version).ok_or_else(ApiError::no_such_path)?,
    };
    if request.method() != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    let unchanged = found.etag.is_some() && found.etag.as_deref() == header(&IF_NONE_MATCH);
    let code = if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = whole(code, if unchanged { Bytes::new() } else { found.bytes });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(found.content_type));
    if let Some(etag) = found.etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

/// What a path names below a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Object(Part),
    Eviction,
}

/// A request for objects.
struct Call<'a> {
    tenant: &'a Tenant,
    user: &'a User,
    headers: &'a HeaderMap,
    body: &'a Bytes,
    served: Served,
    path: ObjectPath,
    asked: Asked,
    query: Query,
    verb: Verb,
}

impl<'a> Call<'a> {
    fn new(
        tenant: &'a Tenant,
        user: &'a User,
        request: &'a Request<Bytes>,
        path: ObjectPath,
    ) -> Result<Self, ApiError> {
        let served = tenant.shared.core.kinds.get(&path.resource).ok_or_else(ApiError::no_such_path)?.clone();
        let fits = match served.kind.scope {
            Scope::Cluster => path.namespace.is_none(),
            Scope::Namespaced => path.namespace.is_some() || path.name.is_none(),
        };
        let asked = match path.subresource.as_deref() {
            None => Some(Asked::Object(Part::Whole)),
            Some("status") if served.kind.has_status => Some(Asked::Object(Part::Status)),
            Some("scale") if served.kind.scale.is_some() => Some(Asked::Object(Part::Scale)),
            Some("eviction") if served.kind.evictable => Some(Asked::Eviction),
            Some(_) => None,
        };
        let Some(asked) = asked.filter(|_| fits) else { return Err(ApiError::no_such_path()) };
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let verb = verb(request.method(), &path, &query)?;
        if (served.kind.answer.is_some() || asked == Asked::Eviction) && verb != Verb::Create {
            return Err(ApiError::method_not_allowed());
        }
        if served.kind.scope == Scope::Namespaced && path.namespace.is_none() && verb == Verb::Create {
            return Err(ApiError::method_not_allowed());
        }
        query.check(verb)?;
        // Everyone who is known may ask what they may do.
        if served.kind.answer.is_none() && !tenant.shared.permits(user) {
            return Err(ApiError::not_permitted(user, verb, &path));
        }
        let (headers, body) = (request.headers(), request.body());
        Ok(Self { tenant, user, headers, body, served, path, asked, query, verb })
    }

    async fn answer(&self) -> Result<Response<Body>, ApiError> {
        let core = &self.tenant.shared.core;
        let include = self.query.get("includeObject").unwrap_or_default();
        let include = IncludeObject::parse(include).ok_or_else(|| {
            unsupported("TableOptions", "includeObject", include, "\"Metadata\", \"None\", \"Object\"")
        })?;
        let form = negotiate(self.header(&ACCEPT))?;
        let lean = self.headers.get(OMIT).is_some_and(|omitted| omitted == MANAGERS);
        let renderer = Renderer::new(self.served.clone(), form, include, Arc::clone(&core.clock)).lean(lean);
        match self.verb {
            Verb::Get => {
                let selection = self.selection()?;
                let bytes = list::get(core, &selection, self.name(), &self.query).await?;
                if let Some(paths) = self.served.kind.scale.as_ref().filter(|_| self.is_scale()) {
                    let shown = scale::scale_of(paths, &super::object::from_bytes(&bytes)?)?;
                    return Ok(whole(StatusCode::OK, shown.to_string()));
                }
                Ok(whole(StatusCode::OK, renderer.stored(bytes)?))
            }
            Verb::List => {
                let mut listed = list::list(core, &self.selection()?, &ListOptions::parse(&self.query)?).await?;
                if let Some(newest) = self.header(&HeaderName::from_static(NEWEST)).and_then(|text| text.parse().ok()) {
                    listed.keep_newest(newest);
                }
                Ok(whole(StatusCode::OK, renderer.list(&listed)?))
            }
            Verb::Watch => {
                let options = WatchOptions::parse(&self.query)?;
                let closing = self.tenant.shared.closing.clone();
                if closing.is_cancelled() {
                    // A watch that ended at once would be asked for again at once.
                    return Err(ApiError::shutting_down());
                }
                let selection = self.selection()?;
                let stream = watch::watch(Arc::clone(core), closing, selection, renderer, options).await?;
                Ok(json_response(StatusCode::OK, Body::stream(stream)))
            }
            Verb::Create if self.asked == Asked::Eviction => self.evict().await,
            Verb::Create if self.served.kind.answer.is_some() => self.review(),
            Verb::Create => self.create(&renderer).await,
            Verb::Update => self.update(&renderer).await,
            Verb::Patch => self.patch(&renderer).await,
            Verb::Delete => self.delete(&renderer).await,
            Verb::DeleteCollection => self.delete_collection(&renderer).await,
        }
    }

    fn header(&self, name: &HeaderName) -> Option<&'a str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn is_scale(&self) -> bool {
        self.asked == Asked::Object(Part::Scale)
    }

    fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    fn selection(&self) -> Result<Selection, ApiError> {
        let namespace = match self.served.kind.scope {
            Scope::Cluster => Some(String::new()),
            Scope::Namespaced => self.path.namespace.clone(),
        };
        Selection::parse(&self.tenant.name, &self.served, namespace, self.path.name.as_deref(), &self.query)
    }

    fn write(&self, options: WriteOptions) -> Write {
        // As in Kubernetes, a client that names no field manager is known by what stands before the slash.
        let agent = self.header(&USER_AGENT).and_then(|agent| agent.split('/').next()).filter(|name| !name.is_empty());
        let manager = options.field_manager.as_deref().or(agent).unwrap_or(&self.user.name);
        Write {
            tenant: Arc::clone(&self.tenant.name),
            served: self.served.clone(),
            user: self.user.clone(),
            namespace: self.path.namespace.clone(),
            name: self.name().to_owned(),
            part: match self.asked {
                Asked::Object(part) => part,
                Asked::Eviction => Part::Whole,
            },
            is_patch: false,
            manager: manager.to_owned(),
            options,
        }
    }

    /// The object in the body, which has to be of this kind, namespace and name, and warnings about the body.
    fn object(&self, write: &Write) -> Result<(Value, Vec<String>), ApiError> {
        let content_type = self.header(&CONTENT_TYPE);
        let mut object = body::object(content_type, self.body)?;
        self.check_identity(&mut object)?;
        let name = meta(&object, "name");
        if self.path.name.as_deref().is_some_and(|wanted| wanted != name) {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.name()
            )));
        }
        let is_json = media_type(content_type) != "application/yaml";
        let twice = if is_json { schema::duplicate_fields(self.body) } else { Vec::new() };
        let twice = twice.iter().map(|field| format!("duplicate field {field:?}")).collect();
        Ok((object, pipeline::field_faults(write, twice)?))
    }

    /// Refuses an object of another kind or namespace.
    fn check_identity(&self, object: &mut Value) -> Result<(), ApiError> {
        check_type(&self.served, object)?;
        let (wanted, found) =
            (self.path.namespace.as_deref().unwrap_or_default(), meta(object, "namespace").to_owned());
        if wanted.is_empty() {
            set_meta(object, "namespace", None);
        } else if !found.is_empty() && found != wanted {
            return Err(ApiError::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request ({found}, {wanted})"
            )));
        }
        Ok(())
    }

    /// The patch in the body. A configuration to apply is a whole object and has to name itself rightly.
    fn patch_body(&self) -> Result<Patch, ApiError> {
        let mut patch = Patch::parse(media_type(self.header(&CONTENT_TYPE)), self.body)?;
        if let Patch::Apply(config) = &mut patch {
            self.check_identity(config)?;
            for field in ["apiVersion", "kind"] {
                if config.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
                    return Err(ApiError::bad_request(format!("{field} must be set in a configuration to apply")));
                }
            }
            if meta(config, "name").is_empty() {
                set_meta(config, "name", Some(json!(self.name())));
            }
            if meta(config, "name") != self.name() {
                return Err(ApiError::bad_request(format!(
                    "metadata.name {:?} does not match the name on the URL {:?}",
                    meta(config, "name"),
                    self.name()
                )));
            }
        }
        Ok(patch)
    }

    async fn create(&self, renderer: &Renderer) -> Result<Response<Body>, ApiError> {
        let write = self.write(WriteOptions::parse(&self.query, "CreateOptions")?);
        let (object, warnings) = self.object(&write)?;
        let body = move |txn: &mut Txn<'_>| create::create(txn, &write, object, Ownership::Track);
        self.written(renderer, warnings, body).await
    }

    async fn update(&self, renderer: &Renderer) -> Result<Response<Body>, ApiError> {
        let write = self.write(WriteOptions::parse(&self.query, "UpdateOptions")?);
        if self.is_scale() {
            let wanted = body::object(self.header(&CONTENT_TYPE), self.body)?;
            return self.scaled(move |txn: &mut Txn<'_>| scale::update(txn, &write, &wanted)).await;
        }
        let (object, warnings) = self.object(&write)?;
        self.written(renderer, warnings, move |txn: &mut Txn<'_>| update::update(txn, &write, object)).await
    }

    async fn patch(&self, renderer: &Renderer) -> Result<Response<Body>, ApiError> {
        let mut write = self.write(WriteOptions::parse(&self.query, "PatchOptions")?);
        write.is_patch = true;
        if self.is_scale() {
            let patch = Patch::parse(media_type(self.header(&CONTENT_TYPE)), self.body)?;
            return self.scaled(move |txn: &mut Txn<'_>| scale::patch(txn, &write, &patch)).await;
        }
        let patch = self.patch_body()?;
        self.written(renderer, Vec::new(), move |txn: &mut Txn<'_>| patch::patch(txn, &write, &patch)).await
    }

    /// Runs a write of replicas and answers with the Scale.
    async fn scaled<F>(&self, body: F) -> Result<Response<Body>, ApiError>
    where
        F: FnOnce(&mut Txn<'_>) -> Result<Written, ApiError> + Send + 'static,
    {
        let done = transact(&self.tenant.shared.queue, body).await?;
        Ok(with_warnings(whole(StatusCode::OK, done.object.to_string()), &done.warnings))
    }

    /// Answers a review.
    fn review(&self) -> Result<Response<Body>, ApiError> {
        let write = self.write(WriteOptions::parse(&self.query, "CreateOptions")?);
        let (mut object, mut warnings) = self.object(&write)?;
        warnings.extend(pipeline::check_alone(&write, &mut object)?);
        if let Some(answer) = self.served.kind.answer {
            answer(self.user, self.tenant.shared.permits(self.user), &mut object)
                .map_err(|fault| ApiError::invalid(&self.served.kind, "", vec![fault]))?;
        }
        Ok(with_warnings(whole(StatusCode::CREATED, object.to_string()), &warnings))
    }

    /// Evicts a Pod.
    async fn evict(&self) -> Result<Response<Body>, ApiError> {
        let write = self.write(WriteOptions::parse(&self.query, "CreateOptions")?);
        let eviction = body::object(self.header(&CONTENT_TYPE), self.body)?;
        let options = evict::options(&eviction, self.name(), write.options.dry_run)?;
        let write = evict::as_deletion(write, options.dry_run);
        let evicted = transact(&self.tenant.shared.queue, move |txn| evict::evict(txn, &write, &options)).await?;
        let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        Ok(with_warnings(whole(StatusCode::CREATED, status.to_string()), &evicted.warnings))
    }

    /// Runs a write and answers with its object.
    async fn written<F>(
        &self,
        renderer: &Renderer,
        mut warnings: Vec<String>,
        body: F,
    ) -> Result<Response<Body>, ApiError>
    where
        F: FnOnce(&mut Txn<'_>) -> Result<Written, ApiError> + Send + 'static,
    {
        let done = transact(&self.tenant.shared.queue, body).await?;
        warnings.extend(done.warnings);
        let code = if done.created { StatusCode::CREATED } else { StatusCode::OK };
        let answer = match done.bytes {
            Some(bytes) => renderer.written(bytes, &done.object)?,
            None => renderer.object(&done.object)?,
        };
        Ok(with_warnings(whole(code, answer), &warnings))
    }

    async fn delete(&self, renderer: &Renderer) -> Result<Response<Body>, ApiError> {
        let options = DeleteOptions::parse(&self.query, self.header(&CONTENT_TYPE), self.body)?;
        let done =
            self.delete_one(self.write_for_deletion(self.name(), &self.path.namespace, &options), options).await?;
        deleted(&self.served, renderer, done)
    }

    async fn delete_one(&self, write: Write, options: DeleteOptions) -> Result<Deleted, ApiError> {
        transact(&self.tenant.shared.queue, move |txn| delete::delete(txn, &write, &options)).await
    }

    fn write_for_deletion(&self, name: &str, namespace: &Option<String>, options: &DeleteOptions) -> Write {
        let mut write = self.write(WriteOptions::for_deletion(options.dry_run));
        (write.name, write.namespace) = (name.to_owned(), namespace.clone());
        write
    }

    /// Deletes what a list shows, one object at a time as Kubernetes does; what is gone meanwhile is no error.
    async fn delete_collection(&self, renderer: &Renderer) -> Result<Response<Body>, ApiError> {
        let options = DeleteOptions::parse(&self.query, self.header(&CONTENT_TYPE), self.body)?;
        let listed =
            list::list(&self.tenant.shared.core, &self.selection()?, &ListOptions::parse(&self.query)?).await?;
        let mut warnings = Vec::new();
        for item in &listed.items {
            let object: Value = super::object::from_bytes(item)?;
            let namespace = Some(meta(&object, "namespace").to_owned()).filter(|namespace| !namespace.is_empty());
            let write = self.write_for_deletion(meta(&object, "name"), &namespace, &options);
            match self.delete_one(write, options.clone()).await {
                Ok(done) => warnings.extend(done.warnings),
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(with_warnings(whole(StatusCode::OK, renderer.list(&listed)?), &warnings))
    }
}

fn verb(method: &Method, path: &ObjectPath, query: &Query) -> Result<Verb, ApiError> {
    let named = path.name.is_some();
    Ok(match (method.as_str(), named) {
        ("GET", _) if query.flag("watch")? == Some(true) && path.subresource.is_none() => Verb::Watch,
        ("GET", true) => Verb::Get,
        ("GET", false) => Verb::List,
        ("POST", false) => Verb::Create,
        ("POST", true) if path.subresource.as_deref() == Some("eviction") => Verb::Create,
        ("PUT", true) => Verb::Update,
        ("PATCH", true) => Verb::Patch,
        ("DELETE", true) if path.subresource.is_none() => Verb::Delete,
        ("DELETE", false) => Verb::DeleteCollection,
        _ => return Err(ApiError::method_not_allowed()),
    })
}

fn check_type(served: &Served, object: &Value) -> Result<(), ApiError> {
    let kind = &served.kind;
    let (version, name) = (kind.resource.api_version(), &kind.kind);
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    if !text("apiVersion").is_empty() && text("apiVersion") != version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({version})",
            text("apiVersion")
        )));
    }
    if !text("kind").is_empty() && text("kind") != name {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({}) does not match the expected kind ({name})",
            text("kind")
        )));
    }
    Ok(())
}

fn deleted(served: &Served, renderer: &Renderer, done: Deleted) -> Result<Response<Body>, ApiError> {
    if !done.gone || served.kind.returns_deleted {
        return Ok(with_warnings(whole(StatusCode::OK, renderer.object(&done.object)?), &done.warnings));
    }
    let resource = &served.kind.resource;
    let mut details =
        json!({ "name": meta(&done.object, "name"), "kind": resource.plural, "uid": meta(&done.object, "uid") });
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    let status =
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
    Ok(with_warnings(whole(StatusCode::OK, status.to_string()), &done.warnings))
}

fn with_warnings(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    for warning in warnings {
        // RFC 7234 section 5.5, with the code and agent that Kubernetes uses.
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let value = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
    response
}

pub(crate) fn whole(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    json_response(code, Body::whole(bytes))
}

fn json_response(code: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer that says what went wrong.
pub(crate) fn refusal(error: &ApiError) -> Response<Body> {
    let mut response = whole(error.status_code(), error.to_body());
    let retry = error.details.as_ref().and_then(|details| details.retry_after_seconds);
    if let Some(seconds) = retry {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
