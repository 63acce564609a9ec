//! Why a cluster cannot be used or rejected a request, and what to do about it. Rejections are parsed from the API
//! server's Status objects. Their wording is not part of any contract, so a message that is not recognized is passed on
//! unchanged.

use kube::core::Status;
use miette::Diagnostic;
use thiserror::Error;

use super::kubeconfig::Plugin;

/// An error of an underlying library.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The cluster was not found, could not be reached, or rejected a request.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// There is no kubeconfig.
    #[error("finding the cluster: no kubeconfig at {searched}")]
    #[diagnostic(help("give --kubeconfig FILE, or set KUBECONFIG"))]
    NoKubeconfig {
        /// The files that were searched for.
        searched: String,
    },

    /// The kubeconfig cannot be read or is invalid.
    #[error("reading the kubeconfig {path}")]
    #[diagnostic(help("`kubectl config view --kubeconfig FILE` shows what kubectl makes of it"))]
    BadKubeconfig {
        /// The file, or the files that were merged.
        path: String,
        /// The cause.
        source: Cause,
    },

    /// The kubeconfig names no current context.
    #[error("reading the kubeconfig {path}: it has no current context")]
    #[diagnostic(help("give --context NAME; the contexts are: {known}"))]
    NoContext {
        /// The file.
        path: String,
        /// The contexts that it has.
        known: String,
    },

    /// The kubeconfig lacks the context.
    #[error("reading the kubeconfig {path}: it has no context {context:?}")]
    #[diagnostic(help("the contexts are: {known}"))]
    NoSuchContext {
        /// The requested context.
        context: String,
        /// The file.
        path: String,
        /// The contexts that it has.
        known: String,
    },

    /// A name occurs twice in one file.
    #[error("reading the kubeconfig {path}: it has two entries for the {what} {name:?}")]
    #[diagnostic(help("remove one: kubectl does not read the file either"))]
    Repeated {
        /// The file.
        path: String,
        /// `cluster`, `user` or `context`.
        what: &'static str,
        /// The name.
        name: String,
    },

    /// A context refers to a cluster or user that does not exist.
    #[error("reading the kubeconfig {path}: its context {context:?} names the {what} {name:?}, which is not there")]
    #[diagnostic(help("the {what}s are: {known}; where another file has it, add that file to KUBECONFIG"))]
    Dangling {
        /// The file.
        path: String,
        /// The context.
        context: String,
        /// `cluster` or `user`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The existing names.
        known: String,
    },

    /// A cluster or a user of the kubeconfig cannot be used.
    #[error("reading the kubeconfig {path}: the {what} {name:?} cannot be used")]
    #[diagnostic(help("`kubectl config view --kubeconfig FILE` shows what kubectl makes of it"))]
    Unfit {
        /// The file.
        path: String,
        /// `cluster` or `user`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The cause.
        source: Cause,
    },

    /// The service account of the pod is not mounted.
    #[error("finding the cluster: the pod's service account cannot be used")]
    #[diagnostic(help("mount the account's token into the pod, or give --kubeconfig FILE"))]
    Pod {
        /// The cause.
        source: Cause,
    },

    /// No client can be created from the configuration.
    #[error("using the configuration {configuration}")]
    #[diagnostic(help("{help}"))]
    Unusable {
        /// The kubeconfig.
        configuration: String,
        /// The help text.
        help: String,
        /// The cause.
        source: Cause,
    },

    /// There was no answer, or not one of an API server.
    #[error("{attempt}: {server} cannot be reached")]
    #[diagnostic(help("{help}"))]
    Unreachable {
        /// What was attempted.
        attempt: String,
        /// The API server's address.
        server: String,
        /// The help text.
        help: String,
        /// The cause.
        source: Cause,
    },

    /// The API server does not recognize the user's credentials.
    #[error("{attempt}: {server} does not accept the credentials of {configuration}")]
    #[diagnostic(help(
        "they may have expired or belong to another cluster: log in again, or choose another --kubeconfig or --context"
    ))]
    Unauthorised {
        /// What was attempted.
        attempt: String,
        /// The API server's address.
        server: String,
        /// The kubeconfig.
        configuration: String,
        /// The server's message.
        source: Cause,
    },

    /// The API server recognizes the user, but the user lacks a permission.
    #[error("{attempt}: {user} may not {right}")]
    #[diagnostic(help("{help}"))]
    Forbidden {
        /// What was attempted.
        attempt: String,
        /// The user.
        user: String,
        /// The permission: verb, resource, namespace.
        right: String,
        /// The help text.
        help: String,
        /// The server's message.
        source: Cause,
    },

    /// The API server rejected the request for another reason.
    #[error("{attempt}: the API server refused")]
    #[diagnostic(help("{help}"))]
    Refused {
        /// What was attempted.
        attempt: String,
        /// The help text.
        help: String,
        /// The server's message.
        source: Cause,
    },

    /// The API server's answer was lost or is invalid.
    #[error("{attempt}: the request failed")]
    #[diagnostic(help(
        "check that `kubectl get namespaces` works with the same kubeconfig and context, then try again"
    ))]
    Request {
        /// What was attempted.
        attempt: String,
        /// The cause.
        source: Cause,
    },
}

/// Whether an API server reports that an object or a whole kind does not exist. For a kind that it does not serve, the
/// answer is plain text.
pub(crate) fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.is_not_found())
}

/// Returns the error for a configuration from which no client can be created.
pub(super) fn unusable(configuration: String, plugin: Option<Plugin>, source: Cause) -> Error {
    let help = match plugin {
        Some(Plugin { command, hint }) => {
            let hint = hint.map(|hint| format!(" ({})", hint.trim())).unwrap_or_default();
            format!("it logs in with the program {command}: see that it is installed and works by itself{hint}")
        }
        None => "check the certificates, keys and token that it names".to_owned(),
    };
    Error::Unusable { configuration, help, source }
}

/// The message of a rejection, without the reason keyword that the library adds.
#[derive(Debug, Error)]
#[error("{0}")]
struct ServerMessage(String);

pub(super) fn classify(attempt: String, error: kube::Error, server: &str, configuration: &str) -> Error {
    let server = server.to_owned();
    match error {
        kube::Error::Api(status) => refused(attempt, &status, server, configuration),
        kube::Error::Service(source) => {
            let help = unreachable_help(source.as_ref());
            Error::Unreachable { attempt, server, help, source: innermost(source) }
        }
        kube::Error::HyperError(source) => {
            let help = unreachable_help(&source);
            Error::Unreachable { attempt, server, help, source: innermost(Box::new(source)) }
        }
        kube::Error::Auth(source) => unusable(configuration.to_owned(), None, source.into()),
        other => Error::Request { attempt, source: other.into() },
    }
}

fn refused(attempt: String, status: &Status, server: String, configuration: &str) -> Error {
    let source = Box::new(ServerMessage(status.message.clone()));
    match status.code {
        401 => Error::Unauthorised { attempt, server, configuration: configuration.to_owned(), source },
        403 => match parse_denial(&status.message) {
            Some(RbacDenial { user, right, check }) => {
                let help = format!(
                    "have a cluster administrator grant it, or choose another --kubeconfig or --context; to see whether \
                     it is granted: {check}"
                );
                Error::Forbidden { attempt, user, right, help, source }
            }
            None if status.message.contains("attempting to grant RBAC permissions") => Error::Forbidden {
                attempt,
                user: quoted_after(&status.message, "user ").unwrap_or("this user").to_owned(),
                right: "grant rights that it does not have itself".to_owned(),
                help: "deploy as a cluster administrator: VirtualCluster's roles hold more rights than this user, and \
                       Kubernetes lets nobody give away what they do not have"
                    .to_owned(),
                source,
            },
            None => Error::Refused { attempt, help: "see the server's words above".to_owned(), source },
        },
        422 => Error::Refused {
            attempt,
            help: "the server's rules differ from those of the versions this was made for, or an admission policy \
                   forbids it: see its words above"
                .to_owned(),
            source,
        },
        429 | 500.. => Error::Refused {
            attempt,
            help: "the API server, or a webhook that it calls, is not well: try again when it is".to_owned(),
            source,
        },
        _ => Error::Refused { attempt, help: "see the server's words above".to_owned(), source },
    }
}

/// The parts of an authorizer's rejection.
struct RbacDenial {
    user: String,
    right: String,
    check: String,
}

/// Parses `User "jane" cannot patch resource "deployments" in API group "apps" in the namespace "vc-manager"`
/// (Kubernetes, `apiserver/pkg/endpoints/handlers/responsewriters/errors.go`).
fn parse_denial(message: &str) -> Option<RbacDenial> {
    let user = quoted_after(message, "User ")?;
    let (_, rest) = message.split_once(" cannot ")?;
    let (verb, rest) = rest.split_once(" resource ")?;
    let resource = quoted_after(rest, "")?;
    let group = quoted_after(rest, "in API group ").unwrap_or_default();
    let namespace = quoted_after(rest, "in the namespace ");
    let full = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let place = namespace.map_or("in the whole cluster".to_owned(), |name| format!("in the namespace {name}"));
    let flag = namespace.map(|name| format!(" --namespace {name}")).unwrap_or_default();
    Some(RbacDenial {
        user: user.to_owned(),
        right: format!("{verb} {full} {place}"),
        check: format!("kubectl auth can-i {verb} {full}{flag} --as {user}"),
    })
}

/// Returns the text between the two quotation marks that follow `before`.
fn quoted_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let start = text.find(&format!("{before}\""))? + before.len() + 1;
    let length = text[start..].find('"')?;
    Some(&text[start..start + length])
}

fn unreachable_help(error: &(dyn std::error::Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        message += &format!(": {this}");
        cause = this.source();
    }
    let message = message.to_lowercase();
    let help = if message.contains("proxy") || message.contains("tunnel") || message.contains("socks") {
        "check that the proxy runs and lets connections to the server through; where the server is reached without it, add its \
         host to NO_PROXY, or take proxy-url out of the kubeconfig"
    } else if message.contains("certificate") {
        "the server's certificate is not the kubeconfig's: check certificate-authority and the server's address in it"
    } else if message.contains("dns") || message.contains("lookup") || message.contains("name or service") {
        "the server's name is not known here: check the server's address in the kubeconfig and this machine's DNS"
    } else {
        "check that the cluster runs and that the server's address in the kubeconfig is right and reachable from here"
    };
    help.to_owned()
}

/// Returns the innermost cause: the layers above only report that something below failed.
fn innermost(error: Cause) -> Cause {
    let mut deepest = None;
    let mut cause = error.source();
    while let Some(this) = cause {
        deepest = Some(this.to_string());
        cause = this.source();
    }
    match deepest {
        Some(message) => Box::new(ServerMessage(message)),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use miette::Diagnostic;

    use super::{Error, classify};

    fn refused(code: u16, message: &str) -> Error {
        let status = Status::failure(message, "").with_code(code);
        classify("applying it".to_owned(), kube::Error::Api(status.boxed()), "https://host:6443", "/home/jane/config")
    }

    fn text(error: &Error) -> String {
        let help = error.help().map(|help| help.to_string()).unwrap_or_default();
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        format!("{error}\nbecause: {cause}\nhelp: {help}")
    }

    #[test]
    fn a_lacking_right_is_named_with_verb_resource_and_namespace() {
        let error = refused(
            403,
            r#"deployments.apps "vc-manager" is forbidden: User "jane" cannot patch resource "deployments" in API group "apps" in the namespace "vc-manager""#,
        );
        insta::assert_snapshot!(text(&error), @r#"
        applying it: jane may not patch deployments.apps in the namespace vc-manager
        because: deployments.apps "vc-manager" is forbidden: User "jane" cannot patch resource "deployments" in API group "apps" in the namespace "vc-manager"
        help: have a cluster administrator grant it, or choose another --kubeconfig or --context; to see whether it is granted: kubectl auth can-i patch deployments.apps --namespace vc-manager --as jane
        "#);
    }

    #[test]
    fn a_right_in_the_whole_cluster_names_no_namespace() {
        let error = refused(
            403,
            r#"nodes is forbidden: User "system:serviceaccount:a:b" cannot list resource "nodes" in API group "" at the cluster scope"#,
        );
        assert_eq!(error.to_string(), "applying it: system:serviceaccount:a:b may not list nodes in the whole cluster");
    }

    #[test]
    fn giving_away_rights_that_one_lacks_asks_for_an_administrator() {
        let error = refused(
            403,
            "clusterroles.rbac.authorization.k8s.io \"vc-manager-role\" is forbidden: user \"jane\" (groups=[\"dev\"]) \
             is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], …}",
        );
        assert_eq!(error.to_string(), "applying it: jane may not grant rights that it does not have itself");
        assert!(text(&error).contains("help: deploy as a cluster administrator"));
    }

    #[test]
    fn unknown_credentials_name_the_kubeconfig() {
        insta::assert_snapshot!(text(&refused(401, "Unauthorized")), @r"
        applying it: https://host:6443 does not accept the credentials of /home/jane/config
        because: Unauthorized
        help: they may have expired or belong to another cluster: log in again, or choose another --kubeconfig or --context
        ");
    }

    #[test]
    fn other_refusals_keep_the_servers_words() {
        let error = refused(422, "Deployment.apps \"x\" is invalid: spec.replicas: too many");
        assert!(text(&error).contains("because: Deployment.apps \"x\" is invalid: spec.replicas: too many"));
    }
}
