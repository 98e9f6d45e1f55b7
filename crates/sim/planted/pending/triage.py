import os,sys,subprocess,time,glob,re
W='/tmp/w/plant5'; D='/tmp/t/plant5/xtask/planted'; TREE=D+'/tree'
seeds=sys.argv[1]; names=sys.argv[2:]
env=dict(os.environ,CARGO_TARGET_DIR=D+'/target',CARGO_PROFILE_SIM_INCREMENTAL='true',CARGO_PROFILE_SIM_DEBUG='false')
def parse(t):
    path=None;h=[]
    for l in t.split('\n')[:-1]:
        if l.startswith('--- '): path=l[4:]; continue
        if path is None: continue
        if l=='@@': h.append([path,'','']); continue
        k,r=(l[0],l[1:]) if l else (' ','')
        if k in ' -': h[-1][1]+=r+'\n'
        if k in ' +': h[-1][2]+=r+'\n'
    return h
def sync():
    want=set()
    for r,d,fs in os.walk(W):
        d[:]=[x for x in d if x not in('target','.git')]
        for f in fs:
            if f=='.git': continue
            a=os.path.join(r,f); rel=os.path.relpath(a,W); want.add(rel); b=TREE+'/'+rel
            x=open(a,'rb').read()
            if not os.path.exists(b) or open(b,'rb').read()!=x:
                os.makedirs(os.path.dirname(b),exist_ok=True); open(b,'wb').write(x)
    for r,d,fs in os.walk(TREE):
        d[:]=[x for x in d if x!='target']
        for f in fs:
            rel=os.path.relpath(os.path.join(r,f),TREE)
            if rel not in want: os.remove(TREE+'/'+rel)
sync()
if not names: names=sorted(glob.glob(W+'/crates/sim/planted/*/*.patch'))
else: names=[f'{W}/crates/sim/planted/{n}.patch' for n in names]
log=open('/tmp/t/plant5/triage.log','a')
def out(s):
    print(s,flush=True); log.write(s+'\n'); log.flush()
for p in names:
    n='/'.join(p.split('/')[-2:])[:-6]
    files={}
    ok=True
    for path,o,w in parse(open(p).read()):
        s=files.get(path) or open(TREE+'/'+path).read()
        i=[m for m in range(len(s)) if s.startswith(o,m) and (m==0 or s[m-1]=='\n')] if False else []
        k=0;pos=-1;at=-1
        while True:
            pos=s.find(o,pos+1)
            if pos<0: break
            if pos==0 or s[pos-1]=='\n': k+=1; at=pos
        if k!=1: ok=False; break
        files[path]=s[:at]+w+s[at+len(o):]
    if not ok: out(f'{n}: NOFIT'); continue
    before={f:open(TREE+'/'+f).read() for f in files}
    for f,s in files.items(): open(TREE+'/'+f,'w').write(s)
    t=time.time()
    b=subprocess.run(['nice','cargo','build','--quiet','--locked','--profile','sim','-p','sim'],cwd=TREE,env=env,capture_output=True,text=True)
    if b.returncode: out(f'{n}: NOCOMPILE '+' | '.join([l for l in b.stderr.split('\n') if l.startswith('error') or '-->' in l][:4]))
    else:
        t1=time.time()
        try:
            r=subprocess.run(['nice',D+'/target/sim/sim','--seeds',seeds,'--steps','500','--no-shrink'],capture_output=True,text=True,timeout=500)
            open(f'/tmp/t/plant5/gen/{n.replace("/","_")}.log','w').write(r.stdout)
            f=sorted((int(m[1]),m[2]) for m in re.finditer(r'^seed (\d+): (.*)$',r.stdout,re.M))
            res=('caught '+f[0][1]+' seed '+str(f[0][0])) if f else ('SURVIVED' if r.returncode==0 else 'ERR')
        except subprocess.TimeoutExpired: res='TIMEOUT'
        out(f'{n}: {res} (build {t1-t:.0f}s run {time.time()-t1:.0f}s)')
    for f,s in before.items(): open(TREE+'/'+f,'w').write(s)
out('DONE')
