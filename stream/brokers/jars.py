"""Apache Kafka's jars, fetched once by Maven and kept in the user's cache."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stream.brokers.guarded import BrokerUnavailable

# Beside the code and not in deploy/, which a wheel does not carry; a file and not a string, so
# that dependency bots see it. The Kafka version stands there alone.
POM = Path(__file__).with_name("pom.xml")
_LEAST_JAVA = 17
_FETCH_SECONDS = 600.0
_TOOL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Kafka:
    """What runs Apache Kafka here: a Java program, and the folder of Kafka's jars."""

    java: str
    jars: Path

    def server(self, properties: Path) -> list[str]:
        """Give the command of the broker."""
        return [self.java, "-Xmx512m", "-cp", f"{self.jars}/*", "kafka.Kafka", str(properties)]

    def format(self, properties: Path, cluster_id: str) -> list[str]:
        """Give the command that makes the broker's empty log folder."""
        quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # it lives for a second
        tool = [self.java, *quick, "-cp", f"{self.jars}/*", "kafka.tools.StorageTool"]
        return [*tool, "format", "-t", cluster_id, "-c", str(properties)]


def find_kafka() -> Kafka:
    """Find Java and the jars, fetching those where they are missing; raises BrokerUnavailable."""
    java = find_java()
    return Kafka(java, fetch_jars())


def find_java() -> str:
    """Find Java 17 or newer, in JAVA_HOME or on the path; raises BrokerUnavailable."""
    home = os.environ.get("JAVA_HOME")
    wanted = str(Path(home, "bin", "java")) if home else "java"
    java = shutil.which(wanted)
    if java is None:
        msg = (
            f"Apache Kafka needs Java {_LEAST_JAVA} or newer, and there is no {wanted}: "
            "install it (Debian: openjdk-17-jre-headless), or name a broker"
        )
        raise BrokerUnavailable(msg)
    said = run([java, "-version"], _TOOL_SECONDS)
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None or int(version[1]) < _LEAST_JAVA:
        first = said.splitlines()[0] if said else "nothing"
        msg = f"Apache Kafka needs Java {_LEAST_JAVA} or newer, and {java} says: {first}"
        raise BrokerUnavailable(msg)
    return java


def kafka_version() -> str:
    """Give the version of Kafka that the POM names."""
    version = re.search(r"<kafka\.version>([^<]+)<", POM.read_text())
    assert version is not None
    return version[1]


def fetch_jars() -> Path:
    """Give the folder of the jars, which one Maven run fills; raises BrokerUnavailable."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jars = cache / "creditstream" / f"kafka-{kafka_version()}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        msg = f"Apache Kafka's jars are not in {jars}, and there is no mvn to fetch them: "
        raise BrokerUnavailable(msg + "install it (Debian: maven), or name a broker")
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix="fetching-") as made:
        fetched = Path(made, "jars")
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
        run([maven, "-q", "-B", "-f", str(POM), *goal], _FETCH_SECONDS)
        try:
            fetched.rename(jars)
        except OSError:
            if not jars.is_dir():  # another process was quicker
                raise
    return jars


def run(command: list[str], seconds: float = _TOOL_SECONDS) -> str:
    """Run a command to its end; give all it said. Raises BrokerUnavailable where it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - the commands of this package
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        msg = f"{command[0]} took longer than {seconds:.0f} s and was ended"
        raise BrokerUnavailable(msg) from None
    if done.returncode != 0:
        last = " | ".join(done.stdout.strip().splitlines()[-5:])
        msg = f"{command[0]} failed with exit code {done.returncode}: {last}"
        raise BrokerUnavailable(msg)
    return done.stdout
