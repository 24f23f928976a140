# SPDX-License-Identifier: GPL-3.0-or-later
"""Real browsers without a window: Chromium by its DevTools, Firefox by WebDriver BiDi, both over a web socket."""
import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FIREFOX = ("firefox", "firefox-esr")
# None of them may ask anybody else for anything.
CHROMIUM_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                    "--no-proxy-server", "--disable-background-networking", "--disable-component-update",
                    "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0",
                    "--remote-allow-origins=*")
FIREFOX_PREFERENCES = {
    "app.update.enabled": False, "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False, "toolkit.telemetry.enabled": False,
    "browser.safebrowsing.malware.enabled": False, "browser.safebrowsing.phishing.enabled": False,
    "extensions.update.enabled": False, "network.proxy.type": 0, "app.normandy.enabled": False,
    "services.settings.server": "data:,", "browser.startup.page": 0,
    "network.captive-portal-service.enabled": False, "network.connectivity-service.enabled": False,
    "browser.topsites.contile.enabled": False, "browser.newtabpage.enabled": False}
PATIENCE = 120.0
# For scripts: how our pages' own find an element.
BY_ID = "(id) => document.getElementById(id)"


def found(names):
    return next((path for path in map(shutil.which, names) if path), None)


class Browser:
    """One page of a browser. ``errors``: what its console and its pages complained of."""
    NAMES = ()

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="empiar-browser-")
        self._words = open(os.path.join(self.folder, "words"), "w+b")     # noqa: SIM115, closed with it
        # A home of its own, and a place for what is temporary: nothing is left with whoever runs the tests.
        self.process = subprocess.Popen(
            self._command(found(self.NAMES)), stdin=subprocess.DEVNULL, stdout=self._words, stderr=self._words,
            start_new_session=True,
            env=dict(os.environ, HOME=self.folder, TMPDIR=self.folder, MOZ_HEADLESS="1"))
        self.errors = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._number, self._answers = 0, {}
        try:
            self._socket = self._run(self._connect(self._address()))
            self._reading = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
            self._begin()
        except BaseException:
            self.close()
            raise

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def _connect(self, address):
        # Here, so that other tests run where it is missing.
        from tornado.httpclient import HTTPRequest
        from tornado.websocket import websocket_connect
        return await websocket_connect(HTTPRequest(address, request_timeout=PATIENCE), max_message_size=1 << 28)

    def _said(self, pattern):
        """What the browser has printed."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            with open(self._words.name, errors="replace") as stream:
                told = re.search(pattern, stream.read())
            if told:
                return told.group(1)
            time.sleep(0.1)
        with open(self._words.name, errors="replace") as stream:
            raise RuntimeError("the browser said: " + stream.read()[-2000:])

    async def _read(self):
        while True:
            text = await self._socket.read_message()
            if text is None:
                return
            message = json.loads(text)
            future = self._answers.pop(message.get("id"), None)
            if future is not None:
                future.set_result(message)
            else:
                self._hear(message)

    def tell(self, method, **values):
        async def asked():
            self._number += 1
            message = dict(self._envelope(), id=self._number, method=method, params=values)
            self._answers[self._number] = future = asyncio.get_event_loop().create_future()
            await self._socket.write_message(json.dumps(message))
            return await asyncio.wait_for(future, PATIENCE)

        answer = self._run(asked())
        if "error" in answer:
            raise RuntimeError("%s: %s" % (method, answer))
        return answer["result"]

    def _envelope(self):
        return {}

    def wait(self, script, wanted=True, seconds=PATIENCE):
        """Until a script gives what is wanted."""
        deadline, value = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            try:
                value = self.run(script)
            except RuntimeError as error:
                value = error       # the page is not there yet
            if value == wanted:
                return
            time.sleep(0.1)
        raise AssertionError("%s is %r, not %r; %s" % (script, value, wanted, self.errors))

    def picture(self, path):
        with open(path, "wb") as stream:
            stream.write(base64.b64decode(self._capture()))

    def signal(self, number):
        """To all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(Exception):
            self._run(asyncio.sleep(0))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()
        self._words.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


class Chromium(Browser):
    NAMES = CHROMIUM
    _session = None
    _received = 0

    def _command(self, program):
        return [program, *CHROMIUM_OPTIONS, "--user-data-dir=" + self.folder, "about:blank"]

    def _address(self):
        return self._said(r"DevTools listening on (ws://\S+)")

    def _begin(self):
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Page", "Log", "Network"):
            self.tell(domain + ".enable")

    def _envelope(self):
        return {"sessionId": self._session} if self._session else {}

    def _hear(self, message):
        if message.get("method") == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif message.get("method") == "Network.dataReceived":
            self._received += message["params"]["dataLength"]
        elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.errors.append("%(text)s %(url)s" % dict({"url": ""}, **message["params"]["entry"]))

    def open(self, address):
        self.tell("Page.navigate", url=address)

    def run(self, script):
        answer = self.tell("Runtime.evaluate", expression="globalThis.$ = %s;\n%s" % (BY_ID, script),
                           awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def size(self, width, height, scale=1, is_phone=False):
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=is_phone)

    def scheme(self, name):
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def slow(self, bytes_a_second):
        self.tell("Network.emulateNetworkConditions", offline=False, latency=50, downloadThroughput=bytes_a_second,
                  uploadThroughput=bytes_a_second)

    def press(self, key, code=0):
        letter = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.tell("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **letter)

    def received(self):
        """Bytes that have come over the line."""
        return self._received

    def memory(self):
        """Bytes of JavaScript's objects, after what is not needed any more was given back."""
        self.tell("HeapProfiler.collectGarbage")
        return self.tell("Runtime.getHeapUsage")["usedSize"]

    def _capture(self):
        return self.tell("Page.captureScreenshot", format="png")["data"]


class Firefox(Browser):
    NAMES = FIREFOX
    _context = None

    def _command(self, program):
        profile = os.path.join(self.folder, "profile")
        os.mkdir(profile)
        with open(os.path.join(profile, "user.js"), "w") as stream:
            for name, value in FIREFOX_PREFERENCES.items():
                stream.write("user_pref(%s, %s);\n" % (json.dumps(name), json.dumps(value)))
        return [program, "--headless", "--profile", profile, "--remote-debugging-port", "0", "--no-remote"]

    def _address(self):
        return self._said(r"WebDriver BiDi listening on (ws://\S+)") + "/session"

    def _begin(self):
        self.tell("session.new", capabilities={})
        self._context = self.tell("browsingContext.getTree")["contexts"][0]["context"]
        self.tell("session.subscribe", events=["log.entryAdded"])

    def _hear(self, message):
        if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
            self.errors.append(message["params"]["text"])

    def open(self, address):
        self.tell("browsingContext.navigate", context=self._context, url=address, wait="none")

    def run(self, script):
        expression = "(async ($) => JSON.stringify(await (%s)))(%s)" % (script.rstrip(";"), BY_ID)
        answer = self.tell("script.evaluate", expression=expression, target={"context": self._context},
                           awaitPromise=True)
        if answer["type"] != "success":
            raise RuntimeError(answer)
        return json.loads(answer["result"].get("value", "null"))

    def size(self, width, height):
        self.tell("browsingContext.setViewport", context=self._context, viewport={"width": width, "height": height})

    def _capture(self):
        return self.tell("browsingContext.captureScreenshot", context=self._context)["data"]
