# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's vsftpd and nginx on loopback, over the same tree as the real archive: the servers of others."""
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Iterator, Optional

RATE = 1500000      # bytes a second for one connection, as seen at EMPIAR

VSFTPD_CONF = """\
listen=YES
listen_address={address}
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
write_enable=NO
anon_root={root}
anon_world_readable_only=NO
anon_max_rate={rate}
max_per_ip=0
max_clients=0
secure_chroot_dir={empty}
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
port_enable=NO
"""

NGINX_CONF = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access.log;
  default_type application/octet-stream;
  sendfile on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen {address}:{port}{tls};
    {certificate}
    limit_rate {rate};
    keepalive_requests 100000;
    root {root};
    location / {{ autoindex on; }}
    location /empiar/api/entry/ {{ default_type application/json; limit_rate 0; try_files ${{uri}}index.json =404; }}
    location /emdb/api/entry/ {{ default_type application/json; try_files $uri =404; }}
  }}
}}
"""


def missing() -> str:
    """Why the real servers cannot run here, '' if they can."""
    if os.geteuid() != 0:
        return "vsftpd's and nginx's tests need root"
    absent = [name for name in ("vsftpd", "nginx") if find(name) is None]
    return "not installed: " + ", ".join(absent) if absent else ""


# FTP servers that Debian does not let be installed beside another one: unpacked here by .ci/run.
UNPACKED = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), ".servers")


def find(name: str) -> Optional[str]:
    folders = (os.environ.get("PATH", ""), "/usr/sbin", "/sbin", os.path.join(UNPACKED, "usr", "sbin"))
    return shutil.which(name, path=os.pathsep.join(folders))


def free_port() -> int:
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def vsftpd(root: str, rate: int = 0, port: int = 0, address: str = "127.0.0.1") -> Iterator[int]:
    """The port of a vsftpd that serves ``root`` to anonymous."""
    port = port or free_port()
    with tempfile.TemporaryDirectory() as folder:
        empty = os.path.join(folder, "empty")
        os.mkdir(empty)
        conf = os.path.join(folder, "vsftpd.conf")
        with open(conf, "w") as stream:
            stream.write(VSFTPD_CONF.format(port=port, address=address, root=root, rate=rate, empty=empty))
        with running([find("vsftpd"), conf], port, address):
            yield port


@contextlib.contextmanager
def nginx(root: str, rate: int = 0, port: int = 0, address: str = "127.0.0.1", certificate: str = "") -> Iterator[int]:
    """The port of an nginx that serves ``root``, over TLS when ``certificate`` (PEM with key) is given."""
    port = port or free_port()
    with tempfile.TemporaryDirectory() as folder:
        conf = os.path.join(folder, "nginx.conf")
        lines = "ssl_certificate {0}; ssl_certificate_key {0};".format(certificate) if certificate else ""
        with open(conf, "w") as stream:
            stream.write(NGINX_CONF.format(folder=folder, port=port, address=address, root=root, rate=rate,
                                           tls=" ssl" if certificate else "", certificate=lines))
        with running([find("nginx"), "-c", conf, "-p", folder], port, address):
            yield port


PROFTPD_CONF = """\
ServerName test
ServerType standalone
Port {port}
DefaultAddress 127.0.0.1
SocketBindTight on
UseIPv6 off
User ftp
Group nogroup
ScoreboardFile {folder}/score
PidFile {folder}/pid
DelayEngine off
WtmpLog off
TransferLog none
{more}
<Anonymous {root}>
  User ftp
  Group nogroup
  UserAlias anonymous ftp
  RequireValidShell off
  AnonRequirePassword off
</Anonymous>
"""


@contextlib.contextmanager
def proftpd(root: str, more: str = "") -> Iterator[int]:
    """The port of a ProFTPD that serves ``root``, with more lines of configuration."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        conf = os.path.join(folder, "conf")
        with open(conf, "w") as stream:
            stream.write(PROFTPD_CONF.format(port=port, folder=folder, root=root, more=more))
        with running([find("proftpd"), "-n", "-q", "-c", conf], port, "127.0.0.1"):
            yield port


@contextlib.contextmanager
def pure_ftpd(root: str, *options: str) -> Iterator[int]:
    """The port of a pure-ftpd that serves ``root``, with more options."""
    port = free_port()
    # It serves the home of the user ftp; in a mount namespace of its own that is the folder wanted.
    home = pwd.getpwnam("ftp").pw_dir
    os.makedirs(home, exist_ok=True)
    command = 'mount --bind "$0" "$1" && shift && exec "$@"'
    with running(["unshare", "-m", "sh", "-c", command, root, home, find("pure-ftpd"), "-S", "127.0.0.1,%d" % port,
                   "-e", *options], port, "127.0.0.1"):
        yield port


@contextlib.contextmanager
def running(command: list, port: int, address: str = "127.0.0.1") -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((address, port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    msg = "%s did not start" % command[0]
                    raise RuntimeError(msg) from None
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def certificates(folder: str, *names: str) -> "tuple[str, str]":
    """A certificate authority made for the occasion: paths of (key and certificate for ``names``, the authority's)."""
    import trustme  # only the tests need it
    authority = trustme.CA()
    server, root = os.path.join(folder, "server.pem"), os.path.join(folder, "authority.pem")
    authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(server)
    authority.cert_pem.write_to_path(root)
    return server, root
