// Written by fruits: the pages of one cluster go through its tunnel, all others go direct.
var NAMES = $names;
var SUFFIXES = $suffixes;
var NETWORKS = $networks;
var PROXY = $proxy;

function isOwnName(host) {
  var parts = /^(?:ip-(\d+)-(\d+)-(\d+)-(\d+)|i-[0-9a-f]+)\.(.+)$$/.exec(host);
  if (!parts || SUFFIXES.indexOf(parts[5]) < 0) return false;
  return !parts[1] || isOwnAddress(parts.slice(1, 5).join("."));
}

function number(address) {
  var parts = address.split(".");
  return ((+parts[0] * 256 + +parts[1]) * 256 + +parts[2]) * 256 + +parts[3];
}

// The standard isInNet would resolve names, and so ask the local DNS about the cluster's.
function isOwnAddress(host) {
  if (!/^\d{1,3}(\.\d{1,3}){3}$$/.test(host)) return false;
  for (var i = 0; i < NETWORKS.length; i++) {
    var size = 4294967296 - number(NETWORKS[i][1]);
    if (Math.floor(number(host) / size) === Math.floor(number(NETWORKS[i][0]) / size)) return true;
  }
  return false;
}

function FindProxyForURL(url, host) {
  var name = host.toLowerCase().replace(/^\[|\]$$/g, "").replace(/\.$$/, "");
  if (NAMES.indexOf(name) >= 0 || isOwnName(name) || isOwnAddress(name)) return PROXY;
  return "DIRECT";
}
