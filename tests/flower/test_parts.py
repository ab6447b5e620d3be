"""Messages, files, certificates, the bundle, and the command line."""

import tomllib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.flower import bundle, certificates, main, messages, store
from jaxedge.learn import federated as rules

TREE = {
    "kernel": jnp.arange(6.0).reshape(2, 3),
    "half": jnp.ones(3, jnp.bfloat16),
    "steps": jnp.int32(7),
    "mask": jnp.array([True, False]),
    "key": jax.random.key(3),
    "none": (),
}


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == other.dtype
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "tree",
    [
        TREE,
        jnp.ones(2),
        rules.Controlled({"w": jnp.ones(2)}, {"w": jnp.zeros(2)}),
    ],
    ids=["mixed", "bare", "controlled"],
)
def test_messages_and_files_keep_a_tree(tree, tmp_path):
    same(messages.unpack(messages.pack(tree), tree, "it"), tree)
    path = tmp_path / "new" / "tree.npz"
    store.save(path, tree)
    same(store.load(path, tree), tree)
    assert [p.name for p in path.parent.iterdir()] == ["tree.npz"]


def test_a_message_of_another_form_is_named():
    sent = messages.pack({"a": {"b": jnp.ones(2)}})
    for like, what in (
        ({"a": {"b": jnp.ones(3)}}, r"a/b of it has shape \(2,\)"),
        ({"a": {"b": jnp.ones(2, jnp.int32)}}, "dtype float32, but must"),
        ({"a": {"b": jnp.ones(2), "c": jnp.ones(1)}}, "lacks a/c"),
        ({"a": {}}, "has a/b, which nothing here"),
    ):
        with pytest.raises(checks.UsageError, match=what):
            messages.unpack(sent, like, "it")


def test_only_what_changed_is_told():
    start = {"fixed": jnp.ones(3), "moved": jnp.zeros(2)}
    now = {**start, "moved": jnp.ones(2)}
    told = store.changed(now, start)
    assert list(told) == ["moved"]
    same(store.patched(told, start, "it"), now)


def test_damaged_file_is_named(tmp_path):
    path = tmp_path / "tree.npz"
    store.save(path, TREE)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(checks.UsageError, match="tree.npz cannot be read"):
        store.load(path, TREE)


def test_certificate_is_of_the_server_and_signed(tmp_path):
    files = certificates.server(tmp_path)
    authority, own = (
        x509.load_pem_x509_certificate(path.read_bytes())
        for path in (files.authority, files.certificate)
    )
    own.verify_directly_issued_by(authority)
    with pytest.raises((ValueError, InvalidSignature)):
        authority.verify_directly_issued_by(own)
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
    addresses = names.value.get_values_for_type(x509.IPAddress)
    assert [str(address) for address in addresses] == ["127.0.0.1"]
    usage = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    basic = own.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not basic.value.ca
    assert files.key.stat().st_mode & 0o77 == 0
    # A second call keeps them; another folder has another authority.
    before = files.certificate.read_bytes()
    assert certificates.server(tmp_path).certificate.read_bytes() == before
    other = certificates.server(tmp_path / "other").authority.read_bytes()
    with pytest.raises((ValueError, InvalidSignature)):
        own.verify_directly_issued_by(x509.load_pem_x509_certificate(other))


def test_node_keys_are_a_pair(tmp_path):
    files = certificates.node(tmp_path, "north")
    private = serialization.load_ssh_private_key(
        files.private.read_bytes(), None
    )
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(private.curve, ec.SECP384R1)
    public = serialization.load_ssh_public_key(files.public.read_bytes())
    assert private.public_key() == public
    assert files.private.stat().st_mode & 0o77 == 0


def test_bundle_fetches_nothing_and_keeps_its_settings(tmp_path):
    given = {"task": '{"a": "\u00e9\\n\\" "}', "folder": "/x y", "timeout": 2.5}
    bundle.write(tmp_path / "app", given)
    text = (tmp_path / "app" / "pyproject.toml").read_text()
    found = tomllib.loads(text)
    assert found["project"]["dependencies"] == []
    assert found["tool"]["flwr"]["app"]["config"] == given


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--nodes=two"], "--nodes is 'two', but must be a number"),
        (["--timeout=0"], "--timeout is 0.0, but must lie in"),
        (["--nodes"], "expected one argument"),
        (["--nodes=3"], "--nodes is 3, but the config has 2 clients"),
        (["--config.federated.clients=0"], "federated.clients is 0"),
        (["--workdir="], "no --workdir"),
    ],
)
def test_bad_input_is_one_line(flags, message, small, capsys):
    assert main.console([*small, *flags]) == 2
    told = capsys.readouterr().err
    assert told.startswith("flower: error: ") and message in told
    assert told.count("\n") == 1
