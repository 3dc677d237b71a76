"""airbench94 in plain PyTorch, from its published description (Jordan 2024), on kapp's split of CIFAR-10.

    python reports/airbench/reference.py DATA_DIR EPOCHS:SEED,EPOCHS:SEED,...

DATA_DIR is kapp's data cache. It prints validation accuracies with one view, two and six.
"""
import os, sys, time
os.environ["KERAS_BACKEND"] = "torch"
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from kapp import data
dev = "cuda" if torch.cuda.is_available() else "cpu"
half = torch.float16 if dev == "cuda" else torch.float32
ds = data.load("cifar10", data_dir=sys.argv[1])
X = np.asarray(ds.images)
def split(s): return torch.tensor(X[s.samples]), torch.tensor(np.asarray(s.labels)).long()
(xt, yt), (xv, yv) = split(ds.train), split(ds.validation)
mean = torch.tensor((0.4914, 0.4822, 0.4465)); std = torch.tensor((0.2470, 0.2435, 0.2616))
def norm(x): return ((x.float() / 255 - mean) / std).permute(0, 3, 1, 2).to(dev, half).contiguous(memory_format=torch.channels_last)
xt, xv, yt, yv = norm(xt), norm(xv), yt.to(dev), yv.to(dev)

class BN(nn.BatchNorm2d):
    def __init__(self, c):
        super().__init__(c, eps=1e-12, momentum=0.4); self.weight.requires_grad = False
class Conv(nn.Conv2d):
    def __init__(self, a, b, k=3):
        super().__init__(a, b, k, padding="same", bias=False)
        nn.init.dirac_(self.weight.data[:a])
class Group(nn.Module):
    def __init__(self, a, b):
        super().__init__(); self.c1, self.c2, self.b1, self.b2 = Conv(a, b), Conv(b, b), BN(b), BN(b)
    def forward(self, x):
        x = F.gelu(self.b1(F.max_pool2d(self.c1(x), 2)))
        return F.gelu(self.b2(self.c2(x)))
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.white = nn.Conv2d(3, 24, 2, bias=True); self.white.weight.requires_grad = False
        self.groups = nn.Sequential(Group(24, 64), Group(64, 256), Group(256, 256))
        self.head = nn.Linear(256, 10, bias=False)
    def forward(self, x):
        x = self.groups(F.gelu(self.white(x)))
        return self.head(F.max_pool2d(x, 3).flatten(1)) / 9
def train(epochs, seed, bs=1024, lr0=11.5, wd0=0.0153, bias=64.0, smooth=0.2, pad=2):
    torch.manual_seed(seed)
    net = Net().to(dev)
    p = xt[:5000].float().unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    cov = (p.T @ p / len(p)).double(); e, V = torch.linalg.eigh(cov, UPLO="U")
    w = (V.T.flip(0) / torch.sqrt(e.flip(0)[:, None] + 5e-4)).reshape(12, 3, 2, 2).float()
    with torch.no_grad(): net.white.weight[:] = torch.cat((w, -w)); net.white.bias.zero_()
    net = net.to(memory_format=torch.channels_last)
    if half == torch.float16:
        net.half()
        for m in net.modules():
            if isinstance(m, BN): m.float()
    kilo = 1024 * (1 + 1 / (1 - 0.85)); lr = lr0 / kilo; wd = wd0 * bs / kilo
    norm_b = [q for k, q in net.named_parameters() if ".b1." in k or ".b2." in k]; norm_b = [q for q in norm_b if q.requires_grad]
    rest = [q for k, q in net.named_parameters() if not (".b1." in k or ".b2." in k) and q.requires_grad]
    opt = torch.optim.SGD([dict(params=norm_b, lr=lr * bias, weight_decay=wd / (lr * bias)), dict(params=rest, lr=lr, weight_decay=wd / lr)], momentum=0.85, nesterov=True)
    steps = len(xt) // bs; total = epochs * steps
    peak = int(0.23 * total)
    def factor(i): return 0.2 + 0.8 * i / peak if i < peak else 1 + (0.07 - 1) * (i - peak) / (total - peak)
    sch = torch.optim.lr_scheduler.LambdaLR(opt, factor)
    alpha = 0.95 ** 5 * (torch.arange(total + 1) / total) ** 3
    ema = {k: v.clone() for k, v in net.state_dict().items()}
    def lookahead(a):
        for k, q in net.state_dict().items():
            if q.dtype in (torch.half, torch.float):
                ema[k].lerp_(q, 1 - a); q.copy_(ema[k])
    first = torch.rand(len(xt), device=dev) < 0.5
    base = torch.where(first[:, None, None, None], xt.flip(3), xt)
    padded = F.pad(base.float(), (pad,) * 4, "reflect").to(half)
    i = 0
    for epoch in range(epochs):
        net.white.bias.requires_grad = epoch < 3
        net.train()
        s = 2 * pad + 1
        sh = torch.randint(0, s, (len(xt), 2), device=dev)
        images = torch.empty_like(base)
        for dy in range(s):
            for dx in range(s):
                m = (sh[:, 0] == dy) & (sh[:, 1] == dx)
                images[m] = padded[m][:, :, dy:dy + 32, dx:dx + 32]
        if epoch % 2: images = images.flip(3)
        order = torch.randperm(len(xt), device=dev)
        for b in range(steps):
            idx = order[b * bs:(b + 1) * bs]
            loss = F.cross_entropy(net(images[idx]).float(), yt[idx], label_smoothing=smooth, reduction="sum")
            opt.zero_grad(set_to_none=True); loss.backward(); opt.step(); sch.step(); i += 1
            if i % 5 == 0: lookahead(alpha[i].item())
    lookahead(1.0)
    net.eval()
    with torch.inference_mode():
        def logits(x): return torch.cat([net(x[k:k + 2000]).float() for k in range(0, len(x), 2000)])
        plain = logits(xv)
        def mirror(x): return 0.5 * logits(x) + 0.5 * logits(x.flip(3))
        px = F.pad(xv.float(), (1,) * 4, "reflect").to(half)
        tta = 0.5 * mirror(xv) + 0.25 * mirror(px[:, :, :32, :32]) + 0.25 * mirror(px[:, :, 2:34, 2:34])
        acc = [(z.argmax(1) == yv).float().mean().item() for z in (plain, mirror(xv), tta)]
    return acc
for job in sys.argv[2].split(","):
    e, s, *more = job.split(":"); start = time.time()
    kw = {k: float(v) for k, v in (m.split("=") for m in more)}
    for k in ("bs", "pad"):
        if k in kw: kw[k] = int(kw[k])
    print("reference airbench94", job, "validation plain %.4f mirrored %.4f six views %.4f" % tuple(train(int(e), int(s), **kw)), f"{time.time() - start:.0f} s", flush=True)
