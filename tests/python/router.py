#!/usr/bin/env python3
"""A router as somebody outside would write it: grpcio, and code generated from one .proto file alone.

Prints one JSON object per line for everything that happens to it. Ends with 0 when its standard input says `stop` or
ends. Knows nothing of how controllers work: it keeps the last good list, and goes to any address that it knows.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading

import grpc

DEADLINE_S = 2
HEARTBEAT_S = 1
SILENCE_S = 5
RETRY_S = 0.1


def generated(proto):
    """The messages and the stub, generated into a temporary directory."""
    with tempfile.TemporaryDirectory() as out:
        folder, name = os.path.split(os.path.abspath(proto))
        options = [f"--proto_path={folder}", f"--python_out={out}", f"--grpc_python_out={out}", name]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options], check=True)
        sys.path.insert(0, out)
        stem = name.removesuffix(".proto")
        return __import__(f"{stem}_pb2"), __import__(f"{stem}_pb2_grpc")


class Lost(Exception):
    """The connection to one controller is of no more use."""


class Router:
    def __init__(self, arguments, messages, stubs):
        self.id, self.protocol, self.seeds = arguments.id, arguments.protocol, arguments.seed
        self.messages, self.stubs = messages, stubs
        self.boot = os.urandom(16)
        self.version, self.addresses = (0, 0), []
        self.held = None
        self.told_to_stop = threading.Event()

    def tell(self, event, **facts):
        print(json.dumps({"event": event, **facts}), flush=True)

    def offered(self):
        """Protocol 1 has no fields in which to offer anything."""
        return {} if self.protocol == 1 else {"protocol_min": 1, "protocol_max": self.protocol}

    def run(self):
        turn = 0
        while not self.told_to_stop.wait(RETRY_S):
            known = self.addresses or self.seeds
            address = known[turn % len(known)]
            turn += 1
            target = address.split("://", 1)[1]
            with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
                try:
                    self.follow(address, self.stubs.RouterControlStub(channel))
                except grpc.RpcError as error:
                    self.tell("lost", address=address, why=f"{error.code()}: {error.details()}")
                except Lost as lost:
                    self.tell("lost", address=address, why=str(lost))

    def follow(self, address, stub):
        registration = self.messages.RegisterRequest(
            router_id=self.id, software_version="python", boot_id=self.boot, sequence=1, **self.offered()
        )
        answer = stub.Register(registration, timeout=DEADLINE_S)
        effect = self.messages.RegisterResponse.Effect.Name(answer.effect)
        self.tell("registered", address=address, effect=effect, cluster=answer.cluster_id.hex())

        says, heard = queue.Queue(), threading.Event()
        hello = self.messages.Hello(
            router_id=self.id, software_version="python", boot_id=self.boot, held=self.held, **self.offered()
        )
        says.put(self.messages.RouterMessage(hello=hello))
        call = stub.Session(iter(says.get, None))
        over = threading.Event()
        threading.Thread(target=self.beat, args=(says, heard, over, call), daemon=True).start()
        try:
            for message in call:
                heard.set()
                self.hear(address, message, says)
            raise Lost("the stream ended")
        finally:
            over.set()
            says.put(None)
            call.cancel()

    def beat(self, says, heard, over, call):
        """Says that it is alive, and gives up a controller that says nothing, or when it is told to stop."""
        silent = 0
        while not over.wait(HEARTBEAT_S):
            silent = 0 if heard.is_set() else silent + HEARTBEAT_S
            heard.clear()
            if silent >= SILENCE_S or self.told_to_stop.is_set():
                call.cancel()
                return
            beat = self.messages.RouterHeartbeat(held=self.held, source="newest" if self.addresses else "seeds")
            says.put(self.messages.RouterMessage(heartbeat=beat))

    def hear(self, address, message, says):
        kind = message.WhichOneof("kind")
        if kind == "welcome":
            if message.welcome.protocol != self.protocol:
                raise Lost(f"welcomed with protocol {message.welcome.protocol}")
            self.cluster = message.welcome.cluster_id
        elif kind == "refused":
            self.tell("refused", address=address, reason=message.refused.reason)
            raise Lost(message.refused.reason)
        elif kind == "goodbye":
            raise Lost(message.goodbye.reason)
        elif kind == "update":
            says.put(self.judged(address, message.update))

    def judged(self, address, update):
        """Takes a list over when it is good; the answer to it."""
        version, addresses = self.decoded(update)
        facts = {"address": address, "protocol": update.protocol, "version": version, "addresses": addresses}
        reason = "empty" if not addresses else "older" if version < self.version else ""
        self.tell("list", **facts, taken=not reason)
        if reason:
            return self.messages.RouterMessage(nack=self.messages.Nack(nonce=update.nonce, reason=reason))
        self.version, self.addresses = version, addresses
        ack = self.messages.Ack(nonce=update.nonce)
        if self.protocol > 1:
            listed = self.messages.ListVersion(epoch=version[0], index=version[1])
            held = {"version": listed, "digest": update.digest}
            self.held = self.messages.HeldVersion(cluster_id=self.cluster, **held)
            ack = self.messages.Ack(nonce=update.nonce, **held)
        return self.messages.RouterMessage(ack=ack)

    def decoded(self, update):
        if update.protocol != self.protocol:
            raise Lost(f"a list of protocol {update.protocol}")
        if update.protocol == 1:
            flat = self.messages.FlatList.FromString(update.list)
            return (flat.index >> 32, flat.index & 0xFFFFFFFF), list(flat.addresses)
        structured = self.messages.ControllerList.FromString(update.list)
        endpoints = [endpoint for controller in structured.controllers for endpoint in controller.endpoints]
        return (structured.version.epoch, structured.version.index), endpoints


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proto", required=True, help="router.proto")
    parser.add_argument("--id", required=True)
    parser.add_argument("--seed", action="append", required=True, help="http://HOST:PORT; repeatable")
    parser.add_argument("--protocol", type=int, choices=[1, 2], default=1)
    arguments = parser.parse_args()
    router = Router(arguments, *generated(arguments.proto))
    runs = threading.Thread(target=router.run)
    runs.start()
    for line in sys.stdin:
        if line.strip() == "stop":
            break
    router.told_to_stop.set()
    runs.join()
    router.tell("stopped")


if __name__ == "__main__":
    main()
