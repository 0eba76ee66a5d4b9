"""The configuration of a rehearsed JupyterHub; read by jupyterhub, whose Python may lack fruits.

One user, the password in a file, and a proxy within the hub's own process that ends TLS.
"""

import hmac
import json
import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

from configurable_http_proxy.configproxy import PythonProxy
from jupyterhub.auth import Authenticator
from jupyterhub.proxy import Proxy
from tornado.httpserver import HTTPServer

WORK = Path(os.environ["FRUITS_HUB"])
ASKED = json.loads((WORK / "hub.json").read_text(encoding="utf-8"))


class PasswordFile(Authenticator):  # type: ignore[misc]
    """Takes the password that chpasswd wrote last."""

    async def authenticate(self, handler: object, data: dict[str, str]) -> str | None:
        right = (WORK / "password").read_text(encoding="utf-8").strip()
        given = data["username"] == ASKED["user"]
        given = hmac.compare_digest(data["password"].encode(), right.encode()) and given
        return data["username"] if given else None


class OwnProxy(Proxy):  # type: ignore[misc]
    """The pure Python proxy, which knows no TLS, behind a server of tornado's that does."""

    async def start(self) -> None:
        self._proxy = PythonProxy()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(WORK / "hub.pem")
        server = HTTPServer(self._proxy.proxy_app, ssl_options=context)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        server.add_socket(listener)
        sys.stderr.write(f"The proxy listens on {listener.getsockname()[1]}\n")
        sys.stderr.flush()

    async def stop(self) -> None:
        """The process ends with it."""

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        self._proxy.add_route(routespec, {"target": target, "data": data})

    async def delete_route(self, routespec: str) -> None:
        self._proxy.remove_route(routespec)

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        found = self._proxy.get_routes().items()
        return {
            spec: {"routespec": spec, "target": route["target"], "data": route["data"]}
            for spec, route in ((f"{path.rstrip('/')}/", route) for path, route in found)
        }


with socket.socket() as spare:
    spare.bind(("127.0.0.1", 0))
    hub_port = spare.getsockname()[1]

c = get_config()  # type: ignore[name-defined]  # noqa: F821
c.JupyterHub.authenticator_class = PasswordFile
c.JupyterHub.proxy_class = OwnProxy
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{hub_port}"
c.JupyterHub.spawner_class = "simple"
c.Authenticator.allow_all = True
c.SimpleLocalProcessSpawner.home_dir_template = str(WORK)
# What a new session starts would outlive the hub when that is killed.
c.LocalProcessSpawner.popen_kwargs = {"start_new_session": False}
c.Spawner.args = ["--allow-root"]
c.Spawner.default_url = "/tree"
c.Spawner.notebook_dir = str(WORK / "notebooks")
c.Spawner.environment = ASKED["environ"]
for name, value in ASKED["settings"].items():
    setattr(c.Spawner, name, value)
