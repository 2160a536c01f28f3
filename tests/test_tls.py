"""A cluster whose processes speak TLS alone: every kind of fit works, and who has no certificate is refused."""

import re
import socket
import ssl
import subprocess
import sys

import dask.array as da
import numpy as np
import psutil
import pytest
from distributed.security import Security

from dparallel import (
    AsyncSGDClassifier,
    LocalSGDClassifier,
    ParallelDecisionTreeClassifier,
    ParallelKMeans,
    ParallelLogisticRegression,
    ParallelStandardScaler,
    ParameterStore,
    check,
    map_reduce,
)
from tests.clusters import separate_processes

pytest.importorskip("cryptography", reason="Dask makes temporary certificates with it")

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(600, 4))
LABELS = (ROWS[:, 0] > 0).astype(int)
X = da.from_array(ROWS, chunks=(100, 4))
Y = da.from_array(LABELS, chunks=100)


def certificates(folder):
    """Files of a new key and of a certificate that all who belong together show and ask for."""
    made = Security.temporary()
    names = {"tls_ca_file": "ca.pem", "tls_client_cert": "certificate.pem", "tls_client_key": "key.pem"}
    for attribute, name in names.items():
        (folder / name).write_text(getattr(made, attribute))
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    roles = {f"tls_{role}_cert": certificate for role in ("client", "scheduler", "worker")}
    roles |= {f"tls_{role}_key": key for role in ("client", "scheduler", "worker")}
    return Security(tls_ca_file=str(folder / "ca.pem"), require_encryption=True, **roles)


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    security = certificates(tmp_path_factory.mktemp("certificates"))
    # a process that was about to listen or to connect in any other way would raise
    only_tls = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"}
    with separate_processes(2, security=security, environment=only_tls) as (client, processes):
        yield client, processes


MODELS = [  # the last two are the two engines: rounds, and the store
    ParallelDecisionTreeClassifier(max_depth=3),
    ParallelLogisticRegression(),
    LocalSGDClassifier(loss="log_loss", random_state=0, max_iter=3, tol=None),
    ParallelStandardScaler(),
    ParallelKMeans(n_clusters=2, random_state=0),
    AsyncSGDClassifier(loss="log_loss", random_state=0, max_iter=3, tol=None, staleness=0),
]
SLOW = [pytest.param(model, marks=pytest.mark.slow) for model in MODELS[:-1]]


@pytest.mark.parametrize("model", SLOW + MODELS[-1:], ids=lambda model: type(model).__name__)
def test_fit_and_what_follows_work(secured, model):
    model.fit(X, Y)
    result = getattr(model, "predict", getattr(model, "transform", None))(X).compute()
    assert len(result) == 600


def connections(pid):
    process = psutil.Process(pid)
    return (process.net_connections if hasattr(process, "net_connections") else process.connections)("inet")


def test_store_and_its_copies_speak_tls_alone(secured):
    client, processes = secured
    with ParameterStore({"W": (4, 2)}, optimizer="add", replicas=1) as store:
        for clock in range(3):
            store.push({"W": np.ones((4, 2))}, step=(0, clock))
        assert (store.pull(["W"])["W"] == 3.0).all()
        peers = [connection for process in processes for connection in connections(process.pid) if connection.raddr]
        assert peers and {address.ip for peer in peers for address in (peer.laddr, peer.raddr)} == {"127.0.0.1"}
    workers = client.scheduler_info()["workers"]
    assert len(workers) == 2 and all(address.startswith("tls://127.0.0.1") for address in workers)


def test_map_reduce_and_check_work(secured):
    client, _ = secured
    counts = map_reduce([["a b", "a"], ["b a"]], lambda line: [(word, 1) for word in line.split()], lambda k, v: sum(v))
    assert dict(counts) == {"a": 3, "b": 2}
    assert "tls://127.0.0.1" in check(client).summary


REFUSED = """
import sys
from distributed import Client
from distributed.security import Security
folder, *addresses = sys.argv[1:]
strange = {}
if folder:
    strange["security"] = Security(
        tls_ca_file=f"{folder}/ca.pem", tls_client_cert=f"{folder}/certificate.pem", tls_client_key=f"{folder}/key.pem",
        require_encryption=True,
    )
for address in addresses:
    try:
        Client(address, timeout=2, **strange)
    except (OSError, TypeError, RuntimeError, ValueError) as error:
        print("refused:", "OSError" if isinstance(error, OSError) else type(error).__name__, error)
    else:
        print("connected")
"""


def refused(folder, *addresses):
    """What clients of another process that come with these certificates, or none, are told."""
    command = [sys.executable, "-c", REFUSED, str(folder), *addresses]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "connected" not in done.stdout, done.stderr
    return done.stdout


def test_client_without_certificates_is_refused(secured):
    client, _ = secured
    address = client.scheduler.address
    assert refused("", address, address.replace("tls://", "tcp://")).count("refused:") == 2
    assert client.submit(sum, [1, 2]).result() == 3


def test_client_with_certificates_of_somebody_else_is_refused(secured, tmp_path):
    client, _ = secured
    certificates(tmp_path)
    assert re.search(r"(?i)OSError.*(certificate|timed out|closed)", refused(tmp_path, client.scheduler.address))
    assert client.submit(sum, [1, 2]).result() == 3


def converse(connection):
    connection.sendall(b"hello")
    if not connection.recv(1):
        raise ConnectionError("closed")


def test_connection_that_shows_no_certificate_is_dropped(secured):
    host, _, port = secured[0].scheduler.address.removeprefix("tls://").partition(":")
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    # the handshake may be over here before the other side looks for a certificate
    with socket.create_connection((host, int(port)), timeout=10) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        converse(trusting.wrap_socket(raw))
