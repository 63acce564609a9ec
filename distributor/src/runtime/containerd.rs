//! containerd, through the helper that a session has started on the node: the operator's side of the helper's protocol.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::Channel;
use vcstore::{Digest, Image, Store};

use super::transfer::{ConnectionPool, PoolTarget, SentCounter, send_blob};
use super::{
    Error, Event, ImageTarget, Load, Loaded, NodeRuntime, PushedImages, PushedRecord, Removal, RetryHint, Survey, Via,
};
use crate::images::desired_image::DesiredImage;
use crate::images::inventory::Inventory;
use crate::images::plan::{BlobTransfer, ImagePlan, Plan, State};
use crate::images::push_label::PushedImage;
use crate::protocol::proto;
use crate::protocol::proto::helper_client::HelperClient;
use crate::protocol::proto::{Container, HelloRequest, HoldRequest, ReleaseRequest, RemoveRequest, RemoveResponse};
use crate::session::{Binary, Session};
use crate::transport::Transport;

/// The number of blobs that are transferred to one node at once: one is read and hashed while another waits for the
/// node.
const AT_ONCE: usize = 2;

/// The time limit for a query.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The time limit for garbage collection.
const REMOVED_WITHIN: Duration = Duration::from_secs(600);

/// The time limit for unpacking and recording one image.
const FINISH_WITHIN: Duration = Duration::from_secs(1800);

/// containerd on a node, with a session to its helper.
#[derive(Clone, Copy)]
pub(super) struct Containerd<'a> {
    pub(super) session: &'a Session,
    /// Opens further connections.
    pub(super) transport: &'a dyn Transport,
    pub(super) binary: &'a Binary,
    /// The maximum number of connections, the session's own included.
    pub(super) connections: usize,
}

/// The node, with its inventory for a push.
struct Target<'a> {
    containerd: Containerd<'a>,
    client: HelperClient<Channel>,
    inventory: Inventory,
}

/// The node, with what was pushed to it.
struct ContainerdPushes {
    client: HelperClient<Channel>,
    images: Vec<PushedImage>,
    containers: Vec<Container>,
}

#[tonic::async_trait(?Send)]
impl NodeRuntime for Containerd<'_> {
    async fn inspect<'s>(&'s self, images: &[Image]) -> Result<Box<dyn ImageTarget + 's>, Error> {
        let client = self.session.client();
        let inventory = take_inventory(&client, images).await?;
        Ok(Box::new(Target { containerd: *self, client, inventory }))
    }

    async fn survey(&self, images: &[Image]) -> Result<Survey, Error> {
        let client = self.session.client();
        let (inventory, pushed, containers) =
            tokio::try_join!(take_inventory(&client, images), list_pushes(&client), list_containers(&client))?;
        Ok(Survey { via: Via::Helper, inventory, whole_images: None, pushed, containers: Some(containers) })
    }

    async fn pushed<'s>(&'s self) -> Result<Box<dyn PushedImages + 's>, Error> {
        let client = self.session.client();
        let (images, containers) = tokio::try_join!(list_pushes(&client), list_containers(&client))?;
        Ok(Box::new(ContainerdPushes { client, images, containers }))
    }
}

#[tonic::async_trait(?Send)]
impl ImageTarget for Target<'_> {
    fn via(&self) -> Via {
        Via::Helper
    }

    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    async fn load(&self, load: &Load<'_>) -> Result<Loaded, Error> {
        if !hold(&self.client, load.plan).await? {
            tracing::info!("the node lost blobs since its inventory; planning anew");
            return Ok(Loaded::NodeChanged);
        }
        load.begin();
        let Containerd { session, transport, binary, connections } = self.containerd;
        match carry_out(PoolTarget { session, transport, binary, most: connections }, load).await {
            Ok(()) => release(&self.client).await.map(|()| Loaded::Whole),
            Err(Error::Helper { message, retry: RetryHint::FromStart, .. }) => {
                tracing::warn!("{message}; sending it again");
                Ok(Loaded::NodeChanged)
            }
            Err(error) => Err(error),
        }
    }
}

#[tonic::async_trait(?Send)]
impl PushedImages for ContainerdPushes {
    fn via(&self) -> Via {
        Via::Helper
    }

    fn records(&self) -> Vec<PushedRecord> {
        self.images.iter().map(PushedRecord::from).collect()
    }

    fn containers(&self) -> &[Container] {
        &self.containers
    }

    async fn remove(
        &self,
        names: &[String],
        Removal { dry_run, running_only }: Removal,
    ) -> Result<Option<RemoveResponse>, Error> {
        // The helper decides by the state at the time of the removal.
        let request = RemoveRequest { names: names.to_vec(), dry_run, running_only };
        remove(&self.client, request).await.map(Some)
    }
}

/// Queries, in one round trip, facts about the node and what it has of `images` for any platform.
async fn take_inventory(client: &HelperClient<Channel>, images: &[Image]) -> Result<Inventory, Error> {
    let desired = DesiredImage::on_any_platform(images);
    let (mut greeter, mut asker) = (client.clone(), client.clone());
    let answers =
        async { tokio::try_join!(greeter.hello(HelloRequest {}), asker.inventory(Inventory::question(&desired))) };
    let (hello, inventory) = timeout(ANSWER_WITHIN, answers).await.map_err(|_| Error::slow("its inventory"))??;
    Ok(Inventory::read(hello.get_ref(), inventory.into_inner()))
}

/// Queries the node's containers.
async fn list_containers(client: &HelperClient<Channel>) -> Result<Vec<proto::Container>, Error> {
    let answer = timeout(ANSWER_WITHIN, client.clone().containers(proto::ContainersRequest {})).await;
    Ok(answer.map_err(|_| Error::slow("its containers"))??.into_inner().containers)
}

/// Queries which images were pushed to the node.
async fn list_pushes(client: &HelperClient<Channel>) -> Result<Vec<PushedImage>, Error> {
    let answer = timeout(ANSWER_WITHIN, client.clone().pushes(proto::PushesRequest {})).await;
    let images = answer.map_err(|_| Error::slow("its images"))??.into_inner().images;
    Ok(images.into_iter().filter_map(PushedImage::read).collect())
}

/// Removes image records that a push made, unless a container needs them; in a dry run, reports what would be freed.
async fn remove(client: &HelperClient<Channel>, request: proto::RemoveRequest) -> Result<proto::RemoveResponse, Error> {
    let answer = timeout(REMOVED_WITHIN, client.clone().remove(request)).await;
    Ok(answer.map_err(|_| Error::slow("the end of its garbage collection"))??.into_inner())
}

/// Creates the push's lease and adds to it the content that the plan relies on. Returns whether all of that content is
/// still present.
async fn hold(client: &HelperClient<Channel>, plan: &Plan) -> Result<bool, Error> {
    let text = |digests: &BTreeSet<Digest>| digests.iter().map(ToString::to_string).collect();
    let request =
        HoldRequest { digests: text(&plan.kept), chain_ids: text(&plan.kept_snapshots), drop: text(&plan.damaged) };
    let answer = timeout(ANSWER_WITHIN, client.clone().hold(request)).await;
    let held = answer.map_err(|_| Error::slow("a lease"))??.into_inner();
    Ok(held.digests.len() == plan.kept.len() && held.chain_ids.len() == plan.kept_snapshots.len())
}

/// Sends the missing blobs and finishes the incomplete images of the plan.
async fn carry_out(target: PoolTarget<'_>, load: &Load<'_>) -> Result<(), Error> {
    let &Load { store, plan, at, sent, on_event } = load;
    let (client, pool) = (&target.session.client(), &ConnectionPool::new(target.session));
    // Two concurrent steps: while one image is unpacked, the blobs of the next are sent.
    let (arrived, mut finishing) = mpsc::channel::<&ImagePlan>(plan.images.len().max(1));
    let sending = async move {
        for image in plan.images.iter().filter(|image| image.state != State::UpToDate) {
            stream::iter(image.send.clone())
                .map(|sending| async move { send(pool, store, sending, sent).await })
                .buffer_unordered(AT_ONCE)
                .try_collect::<()>()
                .await?;
            if arrived.send(image).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let finishing = async {
        while let Some(image) = finishing.recv().await {
            let request = image.desired.finish(at, |digest| image.absent.contains(digest));
            let answer = timeout(FINISH_WITHIN, client.clone().finish(request)).await;
            let answer = answer.map_err(|_| Error::slow("an unpacked image"))??;
            on_event(Event::Finished { image: image.desired.name(), unpacked: answer.get_ref().unpacked });
        }
        Ok(())
    };
    let work = async { futures::try_join!(sending, finishing).map(|_: ((), ())| ()) };
    tokio::select! {
        done = work => done,
        never = pool.widen(target, plan.bytes_to_send(), sent) => match never {},
    }
}

/// Releases the lease.
pub(super) async fn release(client: &HelperClient<Channel>) -> Result<(), Error> {
    let answer = timeout(ANSWER_WITHIN, client.clone().release(ReleaseRequest {})).await;
    answer.map_err(|_| Error::slow("the end of its lease"))??;
    Ok(())
}

async fn send(
    pool: &ConnectionPool,
    store: &Store,
    sending: BlobTransfer,
    sent: &Arc<SentCounter>,
) -> Result<(), Error> {
    let write = |channel, parts| async move { HelperClient::new(channel).write(parts).await.map(drop) }.boxed_local();
    send_blob(pool, store, sending, sent, &write).await
}
